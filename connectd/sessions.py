"""Who is in: the accepted sessions of all listeners, and the handler that just keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.interfaces import IHandler, IReceiver, ISession
from connectd.sansio import Outcome

if TYPE_CHECKING:

    class Wire(Protocol):
        """What a session needs of its connection."""

        id: int
        peer: Any

        @property
        def local(self) -> Any: ...

        def send(self, message: Any) -> None: ...
        def drained(self) -> Deferred[None]: ...
        def pause(self) -> None: ...
        def resume(self) -> None: ...
        def close(self, outcome: Outcome, reason: str) -> None: ...


NOTHING: Mapping[str, Any] = MappingProxyType({})
"""What sessions have of what nobody asked for."""


@implementer(ISession)
class Session:
    """One accepted session; what a handler gets (:class:`connectd.interfaces.ISession`).

    :param wire: its connection.
    :param protocol: the protocol's name.
    :param listener: the listener's title.
    :param since: when it was accepted, Unix seconds.
    :param identity: who it is, by the protocol's own words.
    :param account: the account's name, or nothing.
    :param wanted: what its handler asked for with ``wants``, by name.
    """

    __slots__ = ("_wire", "account", "identity", "listener", "protocol", "since", "wanted")

    def __init__(
        self,
        wire: Wire,
        protocol: str,
        listener: str,
        since: float,
        identity: Mapping[str, Any],
        account: str = "",
        wanted: Mapping[str, Any] = NOTHING,
    ) -> None:
        self._wire = wire
        self.protocol = protocol
        self.listener = listener
        self.since = since
        self.identity = identity
        self.account = account
        self.wanted = wanted

    @property
    def id(self) -> int:
        return self._wire.id

    @property
    def peer(self) -> Any:
        return self._wire.peer

    @property
    def local(self) -> Any:
        return self._wire.local

    def send(self, message: Any) -> None:
        self._wire.send(message)

    def drained(self) -> Deferred[None]:
        return self._wire.drained()

    def pause(self) -> None:
        self._wire.pause()

    def resume(self) -> None:
        self._wire.resume()

    def kick(self, reason: str) -> None:
        self._wire.close(Outcome.KICKED, reason)

    def fail(self, reason: str) -> None:
        """End the session as ``failed``: its handler could not go on."""
        self._wire.close(Outcome.FAILED, reason)


class SessionRegistry:
    """All accepted sessions of the daemon, by id."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._by_protocol: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, identifier: int) -> Session | None:
        """The session of that id."""
        return self._sessions.get(identifier)

    def count(self, protocol: str) -> int:
        """How many sessions a protocol has."""
        return self._by_protocol[protocol]

    def add(self, session: Session) -> None:
        """Register an accepted session."""
        self._sessions[session.id] = session
        self._by_protocol[session.protocol] += 1

    def remove(self, session: Session) -> None:
        """Forget a session that ended; one that is not there is fine."""
        if self._sessions.pop(session.id, None) is not None:
            self._by_protocol[session.protocol] -= 1


@implementer(IHandler, IReceiver)
class Hold:
    """The handler that keeps sessions and lets their messages go by; it serves all of them at once."""

    def wants(self, protocol: str) -> Iterable[str]:
        return ()

    def open(self, session: Any) -> Hold:
        return self

    def received(self, message: Any) -> None:
        pass

    def closed(self, outcome: Outcome) -> None:
        pass


HOLD = Hold()


@implementer(IReceiver)
class Opening:
    """Stands in while a handler opens: keeps what came in the meantime, in order.

    The peer's input is paused, so this holds what one read brought and no more.
    """

    __slots__ = ("_opened", "messages", "outcome")

    def __init__(self) -> None:
        self._opened: Deferred[Any] | None = None
        self.messages: list[Any] = []
        self.outcome: Outcome | None = None
        """How the session ended, if it did before its handler was open."""

    def wait(self, opened: Deferred[Any]) -> None:
        """Cancel this if the session ends first."""
        self._opened = opened
        if self.outcome is not None:
            opened.cancel()

    def received(self, message: Any) -> None:
        self.messages.append(message)

    def closed(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.messages.clear()
        if self._opened is not None:
            self._opened.cancel()
