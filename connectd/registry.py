"""What plugins bring: protocols, handlers and event sinks, found by their names.

Rooms above this one know protocols only from here. Every failure is one line that says what was looked for and what
there is; one broken plugin stands in nobody else's way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.plugin import getPlugins
from zope.interface import Interface

from connectd.interfaces import IEventSink, IEventSinkPlugin, IHandler, IHandlerPlugin, IProtocol
from connectd.settings import ListenerSettings
from connectd.suggestions import did_you_mean

log = Logger()

FORWARD = "forward:"
"""What the handler settings begin with that pipe sessions to a backend."""


class RegistryError(Exception):
    """What was looked for cannot be had: one line."""


class UnknownProtocol(RegistryError):
    """No plugin brings a protocol of this name."""


class PluginError(RegistryError):
    """A plugin is there but cannot be loaded or used."""


class HandlerError(RegistryError):
    """A ``handler = …`` setting names no handler that there is."""


class EventSinkError(RegistryError):
    """An entry of ``event_sinks`` names no event sink that there is."""


def protocol_names() -> list[str]:
    """The names of all protocols, in order, without loading any of them."""
    return sorted(_by_name(IProtocol))


def protocols() -> dict[str, IProtocol]:
    """All protocols that can be loaded, by name, in order. One that cannot is left out, with one line in the log."""
    found: dict[str, IProtocol] = {}
    for name, plugin in sorted(_by_name(IProtocol).items()):
        try:
            found[name] = _loaded(name, plugin)
        except PluginError as error:
            log.error("{problem}", problem=str(error))
    return found


def protocol(name: str) -> IProtocol:
    """The protocol of that name, loaded.

    :raises UnknownProtocol: where no plugin has it.
    :raises PluginError: where its plugin does not load.
    """
    plugins = _by_name(IProtocol)
    if name not in plugins:
        raise UnknownProtocol(f'there is no protocol "{name}"; {_known("known", plugins)}{did_you_mean(name, plugins)}')
    return _loaded(name, plugins[name])


def check_handler(setting: str) -> None:
    """Tell whether a ``handler = …`` setting means anything, without making the handler.

    :raises HandlerError: where it does not.
    """
    if setting == "hold":
        return
    if not setting.startswith(FORWARD):
        _handler_plugin(setting)
        return
    from connectd.net.forward import ForwardError, parse_place

    try:
        parse_place(setting.removeprefix(FORWARD))
    except ForwardError as error:
        raise HandlerError(f'the handler "{setting}" cannot be used: {error}') from error


def find_handler(setting: str, reactor: Any) -> IHandler:
    """The handler for a ``handler = …`` setting.

    :param setting: ``hold``, ``forward:tcp:HOST:PORT``, ``forward:unix:PATH`` or the name of a handler plugin.
    :param reactor: what a forwarding handler connects with.
    :raises HandlerError: where there is no such handler.
    """
    if setting == "hold":
        from connectd.sessions import HOLD

        return HOLD
    check_handler(setting)
    if not setting.startswith(FORWARD):
        return _handler_plugin(setting)
    from connectd.net.forward import Forward

    return Forward(setting.removeprefix(FORWARD), reactor)


def event_sink(name: str) -> IEventSink:
    """The event sink plugin of that name.

    :raises EventSinkError: where there is none, or it does not load.
    """
    plugins = _by_name(IEventSinkPlugin)
    if name not in plugins:
        hint = did_you_mean(name, plugins)
        raise EventSinkError(f'there is no event sink "{name}"; {_known("known", plugins)}{hint}')
    sink: IEventSink = plugins[name]
    if (problem := _load_problem(sink, "event")) is not None:
        raise EventSinkError(f'the event sink "{name}" cannot be loaded: {problem}')
    return sink


def _handler_plugin(name: str) -> IHandler:
    plugins = _by_name(IHandlerPlugin)
    if name not in plugins:
        words = ["hold", "forward:tcp:HOST:PORT", "forward:unix:PATH", *sorted(plugins)]
        hint = did_you_mean(name, ["hold", *plugins])
        raise HandlerError(f'there is no handler "{name}"; known are {", ".join(words)}{hint}')
    handler: IHandler = plugins[name]
    if (problem := _load_problem(handler, "open")) is not None:
        raise HandlerError(f'the handler "{name}" cannot be loaded: {problem}')
    return handler


def _plugins(interface: type[Interface]) -> Iterator[Any]:
    return iter(getPlugins(interface))


def _by_name(interface: type[Interface]) -> dict[str, Any]:
    """The plugins for an interface, by name. The first of a name wins; those without one are left out."""
    found: dict[str, Any] = {}
    for plugin in _plugins(interface):
        try:
            name = str(plugin.name)
        except Exception as error:
            log.error("{problem}", problem=f"a plugin of {type(plugin).__module__} has no name: {_one_line(error)}")
            continue
        if name in found:
            log.warn("two plugins are called {name}: the second one is ignored", name=name)
            continue
        found[name] = plugin
    return found


def _loaded(name: str, plugin: Any) -> IProtocol:
    """The plugin, after what it stands for was imported."""
    try:
        settings = plugin.settings
    except Exception as error:
        raise PluginError(f'the protocol "{name}" cannot be loaded: {_one_line(error)}') from error
    if not (isinstance(settings, type) and issubclass(settings, ListenerSettings) and attrs.has(settings)):
        raise PluginError(f'the protocol "{name}" cannot be used: its settings are no ListenerSettings class')
    checked: IProtocol = plugin
    return checked


def _load_problem(plugin: Any, method: str) -> str | None:
    """Load what a line of a plugin file stands for, and tell why it cannot be had."""
    try:
        getattr(plugin, method)
    except Exception as error:
        return _one_line(error)
    return None


def _known(word: str, names: Any) -> str:
    return f"{word} are {', '.join(sorted(names))}" if names else "none is installed"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
