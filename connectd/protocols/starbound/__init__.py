"""Starbound: players join a server, in every generation of the game's connection process."""
