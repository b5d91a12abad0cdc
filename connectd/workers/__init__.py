"""
Work that would hold up the reactor, done elsewhere.

A computation that holds the interpreter lock (hash loops, finite-field Diffie-Hellman) gains nothing from a thread:
it is cut into slices between which the reactor goes on, or done by a child process.
"""
