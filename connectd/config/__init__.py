"""The configuration: what an operator wrote, checked in one go, as the settings objects of the rooms."""

from connectd.config.daemon import DaemonSettings
from connectd.config.errors import ConfigurationError
from connectd.config.load import Configuration, ListenerConfiguration, load
from connectd.config.render import render, settings_table
from connectd.structure import from_text, structure

__all__ = [
    "Configuration",
    "ConfigurationError",
    "DaemonSettings",
    "ListenerConfiguration",
    "from_text",
    "load",
    "render",
    "settings_table",
    "structure",
]
