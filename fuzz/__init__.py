"""Arbitrary bytes for everything that reads what a peer sends: ``python -m fuzz``."""
