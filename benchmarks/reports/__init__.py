"""Numbers worth knowing that nobody claims anything about."""
