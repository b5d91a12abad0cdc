"""Alloy (Hytale): who comes into a world over QUIC, by password or by signed token, and what it needs to enter."""
