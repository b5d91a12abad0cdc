"""FmLTP, the FlexMusic protocol: a version exchange, a key exchange, and commands through a secured channel."""
