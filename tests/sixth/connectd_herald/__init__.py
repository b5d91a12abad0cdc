"""HERALD, a protocol of lines: come in with a name, and cry something to everybody who is there."""
