"""What connectd claims to cost, and how each claim is measured."""
