"""What is wrong with a configuration."""

from __future__ import annotations

from connectd.structure import StructureError


class ConfigurationError(StructureError):
    """A configuration file cannot be used; it has a problem for every mistake in it."""
