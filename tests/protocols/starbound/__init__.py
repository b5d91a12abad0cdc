"""The Starbound wing."""
