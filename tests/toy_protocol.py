"""Plugins that are not there unless a test patches them in: protocols, a handler and an event sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
import click
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementer

from connectd import registry
from connectd.interfaces import IEventSinkPlugin, IHandlerPlugin, IListenerService, IProtocol
from connectd.plugins import ProtocolLine
from connectd.settings import ListenerSettings, Network, at_least, between, key, one_of


@attrs.frozen(kw_only=True)
class ToySettings(ListenerSettings):
    """Keys of every kind."""

    udp: str = key("", "Where datagrams come in.")
    backend: str = key("", "Another server, tcp:HOST:PORT.")
    period: float = key(10.0, "How often.", unit="seconds", check=between(0.5, 60))
    count: int = key(3, "How many | how few.", check=at_least(1))
    loud: bool = key(False, "Whether to shout.")
    mood: str = key("good", "How it feels.", check=one_of("good", "bad"))
    limit: float | None = key(None, "How much at most.")
    names: tuple[str, ...] = key((), "Who.", example='["ann", "bob"]')
    sizes: tuple[int, ...] = key((), "How large.")
    friends: tuple[Network, ...] = key((), "From where.")
    certificate: str = key("", "The certificate.", path=True)
    extra_files: tuple[str, ...] = key((), "More files.", path=True)
    password: str = key(
        "", "The word.", secret=True, check=lambda value: None if value != "1234" else f"{value} is weak"
    )


@attrs.frozen(kw_only=True)
class ToyClientSettings:
    """Of a toy client."""

    loud: bool = key(False, "Whether to shout.")


@click.group()
def toy_commands() -> None:
    """What only toys can do."""


@toy_commands.command()
@click.pass_obj
def play(invocation: Any) -> None:
    """Play a bit."""
    click.echo(f"playing with {invocation.config}, json {invocation.json}")


@implementer(IProtocol)
class ToyProtocol:
    """A protocol without a wire."""

    name = "toy"
    title = "TOY: a protocol for tests"
    port = 7000
    settings: type[ListenerSettings] = ToySettings
    client_settings: type[Any] = ToyClientSettings
    account_schemes: tuple[str, ...] = ()
    takes_password = False
    needs_password: Any = None

    def __init__(self) -> None:
        self.probing: Callable[..., Any] = lambda url, report, reactor: None
        self.group: Any = toy_commands
        self.tables: list[Mapping[str, Any]] = [
            {"listen": "tcp:7000:interface=127.0.0.1", "names": ["ann"], "certificate": "state/toy.pem"},
            {"listen": "tcp:7001:interface=127.0.0.1", "loud": True},
        ]

    def makeService(self, settings: ListenerSettings, context: Any) -> IListenerService:
        raise NotImplementedError

    def connect(self, url: str, reactor: Any) -> Deferred[Any]:
        return succeed(None)

    def probe(self, url: str, report: Callable[[str, str], None], reactor: Any, **options: Any) -> Deferred[None]:
        result: Deferred[None] = self.probing(url, report, reactor, **options)
        return result

    def commands(self) -> Any:
        return self.group

    def demonstration(self) -> list[Mapping[str, Any]]:
        return self.tables


@implementer(IHandlerPlugin)
class ToyHandler:
    """A handler with a name."""

    name = "arcade"

    def wants(self, protocol: str) -> Iterable[str]:
        return ()

    def open(self, session: Any) -> Any:
        raise NotImplementedError


@implementer(IEventSinkPlugin)
class ToySink:
    """An event sink with a name."""

    name = "diary"

    def event(self, mapping: Mapping[str, Any]) -> None:
        pass


def broken_protocol() -> ProtocolLine:
    """A protocol whose module is not there."""
    return ProtocolLine("broken", "connectd.protocols.not_there_at_all")


def install(case: SynchronousTestCase, *plugins: Any) -> None:
    """Let these plugins, and no others, be the installed ones for a test."""

    def installed(interface: type[Interface]) -> Iterator[Any]:
        return (plugin for plugin in plugins if interface.providedBy(plugin))

    case.patch(registry, "getPlugins", installed)
