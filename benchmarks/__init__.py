"""What connectd costs, measured against baselines: ``python -m benchmarks``."""
