"""What a ``twisted/plugins`` file needs, and nothing heavier: lines that name their module and load it when used.

A plugin file runs on every ``twistd`` call of every user, so it may import nothing but this::

    from connectd.plugins import EventSinkLine, HandlerLine, ListenerCommand, ProtocolLine

    herald = ProtocolLine("herald", "connectd_herald.plugin")
    herald_command = ListenerCommand("herald", "HERALD: cry something to everybody who is there.")
    crier = HandlerLine("crier", "connectd_herald.square", "crier")
    doorbell = EventSinkLine("doorbell", "connectd_herald.square", "doorbell")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin
from zope.interface import classImplements, implementer

from connectd.interfaces import IEventSinkPlugin, IHandlerPlugin, IProtocol


class _Line:
    """Stands for something that a plugin brings, and loads it when something of it is first asked for.

    :param name: its word in configurations; for a protocol also in commands and URLs.
    :param module: the full name of the module that it is in.
    :param attribute: what it is called there.
    """

    def __init__(self, name: str, module: str, attribute: str = "plugin") -> None:
        self.name = name
        self.module = module
        self.attribute = attribute

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(getattr(import_module(self.module), self.attribute), attribute)


class ProtocolLine(_Line):
    """A protocol: an object that provides :class:`connectd.interfaces.IProtocol`."""


class HandlerLine(_Line):
    """A handler for ``handler = …``: an object that provides :class:`connectd.interfaces.IHandler`."""


class EventSinkLine(_Line):
    """An event sink for ``event_sinks = […]``: an object that provides :class:`connectd.interfaces.IEventSink`."""


classImplements(ProtocolLine, IProtocol)
classImplements(HandlerLine, IHandlerPlugin)
classImplements(EventSinkLine, IEventSinkPlugin)


@implementer(IServiceMaker, IPlugin)
class ListenerCommand:
    """``twistd NAME``: one listener of one protocol, its settings as options.

    :param tapname: the protocol's name, which is also the command's.
    :param description: one line for ``twistd --help``.
    """

    def __init__(self, tapname: str, description: str) -> None:
        self.tapname = tapname
        self.description = description

    @property
    def options(self) -> Any:
        return import_module("connectd.tap").listener_options(self.tapname)

    def makeService(self, options: Any) -> Any:
        return import_module("connectd.tap").make_listener(options)
