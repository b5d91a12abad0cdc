"""Work away from the reactor, or beside it."""
