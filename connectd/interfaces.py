"""What the rooms promise each other, and what plugins of other people may rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from connectd.sansio import Outcome
    from connectd.settings import ListenerSettings


class Unavailable(Exception):
    """What a handler's ``open`` fails with where it cannot take sessions for now: one line that names the cause.

    It is logged as that line; anything else that ``open`` raises is taken for a mistake and logged with its traceback.
    """


class IProtocol(IPlugin):
    """A protocol that connectd speaks. Provided by plugins; found by its name (:mod:`connectd.registry`)."""

    name: str = Attribute("The word for it in configurations, commands and URLs: lower case, such as ``lekt``.")
    title: str = Attribute("One line that says what it is, for command listings.")
    port: int = Attribute("The port number it uses unless told otherwise.")
    settings: type[ListenerSettings] = Attribute("The settings class of its listeners.")
    client_settings: type[Any] = Attribute("The settings class of its clients: the options of a probe URL's query.")
    account_schemes: Iterable[str] = Attribute(
        "The verifier schemes its listeners need of an account; may be empty. Where that depends on a listener's "
        "settings, their class has a property of this name, which goes before."
    )

    def makeService(settings: ListenerSettings, context: Any) -> IListenerService:
        """Make a listener that is bound but not started.

        :param settings: an instance of :attr:`settings`.
        :param context: the daemon's shared rooms, a :class:`connectd.net.listener.Context`.
        :raises connectd.net.sockets.BindError: where a socket cannot be had.
        """

    takes_password: bool = Attribute(
        "Whether :meth:`connect` and :meth:`probe` take a keyword ``password``, bytes or None. Where some of its "
        "clients log in otherwise, a method ``needs_password(url)`` tells which ones have somebody asked for it."
    )

    def connect(url: str, reactor: Any) -> Deferred[Any]:
        """Connect as a client.

        :param url: with this protocol's scheme; its query sets options of :attr:`client_settings`.
        :return: fires with the protocol's client once its session is accepted.
        """

    def probe(url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
        """Walk through the connection process of the server at ``url``.

        :param report: called with (step, detail) at each step, as it happens.
        :return: fires once the session was accepted and left again; fails with what was wrong.
        """

    def commands() -> Any:
        """A click group of this protocol's own commands for ``connectctl NAME …``, or None."""

    def demonstration() -> list[Mapping[str, Any]]:
        """The ``[[listener]]`` tables that ``connectctl init`` writes, on loopback, without ``protocol``."""


class IListenerService(IService):
    """One listener: one or several faces (sockets) of one protocol."""

    title: str = Attribute("Protocol and place for people, such as ``lekt on 127.0.0.1:7890``.")
    protocol: str = Attribute("The protocol's name.")
    faces: list[Any] = Attribute("Its bound sockets.")
    connections: Iterable[Any] = Attribute("The connections that are open.")
    accepting: bool = Attribute("Whether new connections come in.")
    session_count: int = Attribute("How many accepted sessions it has.")

    def reconfigure(settings: ListenerSettings) -> bool:
        """Take new settings for connections from now on. False where that needs a new listener."""

    def stop_accepting() -> Deferred[None]:
        """Close the faces; connections go on."""

    def drain(limit: float) -> Deferred[None]:
        """Stop accepting, tell the peers in the protocol's words, wait, close what is left (COM-8).

        :param limit: seconds to wait.
        """


class ISession(Interface):
    """An accepted session, as its handler sees it."""

    id: int = Attribute("Unique while the daemon runs.")
    identity: Mapping[str, Any] = Attribute("Who it is, by the protocol's own words. Never a secret.")
    account: str = Attribute("The account it logged in with; empty where there is none.")
    peer: Any = Attribute("The peer's address: ``host`` and ``port``, as COM-5 says.")
    local: Any = Attribute("Where the peer's connection arrived: ``host`` and ``port``; None once it is over.")
    protocol: str = Attribute("The protocol's name.")
    since: float = Attribute("When it was accepted, seconds of Unix time.")
    wanted: Mapping[str, Any] = Attribute(
        "What its handler asked for with ``wants``, by name, as far as the peer sent it. The protocol's page says what "
        "each is; it is gone when the session is over."
    )

    def send(message: Any) -> None:
        """Send one of the protocol's messages, or bytes in the form of its forwarded stream.

        :raises connectd.sansio.LocalProtocolError: where the protocol has no room for it.
        """

    def drained() -> Deferred[None]:
        """Fires when what was sent is below the high-water mark (COM-6); fails once the session is over."""

    def pause() -> None:
        """Take nothing from the peer for now."""

    def resume() -> None:
        """Take the peer's messages again."""

    def kick(reason: str) -> None:
        """End the session, in the protocol's own words where it has any."""

    def fail(reason: str) -> None:
        """End the session as ``failed``: its handler cannot go on."""


class IReceiver(Interface):
    """Where a handler takes one session's messages."""

    def received(message: Any) -> None:
        """The peer sent a message. Raising ends the session as ``failed``."""

    def closed(outcome: Outcome) -> None:
        """The session is over. Called once."""


class IHandler(Interface):
    """Who gets accepted sessions. Third parties provide it as a plugin (:class:`IHandlerPlugin`)."""

    def wants(protocol: str) -> Iterable[str]:
        """Names of what a protocol would otherwise drop, such as ``"shipworld"``."""

    def open(session: ISession) -> Any:
        """A session was accepted.

        :return: its :class:`IReceiver`, or a Deferred of it; the peer waits meanwhile. A failure ends the session.
        """


class IHandlerPlugin(IHandler, IPlugin):
    """A handler that configurations can name."""

    name: str = Attribute("The word for it in ``handler = …``.")


class IEventSink(Interface):
    """Where events go (COM-7): one mapping each, flat, without secrets."""

    def event(mapping: Mapping[str, Any]) -> None:
        """Take an event. May not block; raising is logged and changes nothing else."""


class IEventSinkPlugin(IEventSink, IPlugin):
    """An event sink that configurations can name."""

    name: str = Attribute("The word for it in ``event_sinks = […]``.")
