"""The sockets that systemd passed to this process."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, ClassVar, Final

import attrs

from connectd.net.bound import BindError, BoundSocket, address_text
from connectd.net.endpoint import DOMAINS, MAX_INHERITED, SOCKET_TYPES, EndpointDescription, SocketKind, shown

_FIRST_INHERITED: Final = 3


@attrs.define
class _Inherited:
    """One descriptor that systemd passed; `fault` says why it cannot be used."""

    index: int
    descriptor: int
    name: str
    family: int = -1
    type: int = -1
    address: Any = None
    fault: str = ""
    taken: bool = False

    def __str__(self) -> str:
        if self.fault:
            return f"{self.index} '{shown(self.name)}' ({self.fault})"
        kind = "stream" if self.type == socket.SOCK_STREAM else "datagram"
        return f"{self.index} '{shown(self.name)}' ({kind} {shown(address_text(self.family, self.address))})"


def _inspect(index: int, descriptor: int, name: str) -> _Inherited:
    """See what a descriptor is; make it non-blocking and keep it from child processes."""
    entry = _Inherited(index, descriptor, name)
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        entry.fault = "not an open descriptor"
        return entry
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError:
        entry.fault = "not a socket"
        return entry
    try:
        entry.family, entry.type = listener.family, listener.type
        entry.address = listener.getsockname()
        entry.fault = _fault(listener, entry.address)
        if not entry.fault:
            listener.setblocking(False)
    finally:
        # The descriptor stays open until somebody takes it.
        listener.detach()
    return entry


def _fault(listener: socket.socket, address: Any) -> str:
    """Say why a socket cannot be listened on; nothing if it can."""
    if listener.family not in DOMAINS.values():
        return "not an internet or unix socket"
    if listener.type == socket.SOCK_STREAM:
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return ""
        return "not listening; the socket unit needs Accept=no"
    if listener.type != socket.SOCK_DGRAM:
        return "neither a stream nor a datagram socket"
    if listener.family == socket.AF_UNIX:
        return "unix datagram sockets are not supported"
    return "" if address[1] else "datagram socket that is not bound to a port"


@attrs.define(eq=False)
class InheritedSockets:
    """
    The sockets that systemd, or systemd-socket-activate, passed to this process.

    Each can be taken once. Read them before the daemon forks: they are passed to one process number. The process's
    own set is `of_process`, which is also where `bind` looks.
    """

    _entries: tuple[_Inherited, ...]
    _environment: MutableMapping[str, str] = attrs.field(repr=False)

    _process: ClassVar[list[InheritedSockets]] = []

    @classmethod
    def from_environment(
        cls, environment: MutableMapping[str, str], pid: int, *, first: int = _FIRST_INHERITED
    ) -> InheritedSockets:
        """
        Read LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.

        :param pid: number of this process; sockets for another one are none.
        :param first: the first descriptor; 3, except for a test.
        :raises BindError: the variables are for this process, but cannot be right.
        """
        count_text = environment.get("LISTEN_FDS", "")
        if not count_text or environment.get("LISTEN_PID") != str(pid):
            return cls((), environment)
        if re.fullmatch("[0-9]{1,5}", count_text) is None or int(count_text) > MAX_INHERITED:
            raise BindError(
                f"cannot take over systemd's sockets: LISTEN_FDS is '{shown(count_text)}', not a number up to "
                f"{MAX_INHERITED} (let systemd or systemd-socket-activate set it)"
            )
        count = int(count_text)
        names = ["unknown"] * count
        if "LISTEN_FDNAMES" in environment and count:
            names = environment["LISTEN_FDNAMES"].split(":")
            if len(names) != count:
                raise BindError(
                    f"cannot take over systemd's sockets: LISTEN_FDNAMES has {len(names)} names for the {count} "
                    "sockets of LISTEN_FDS (let systemd or systemd-socket-activate set both)"
                )
        entries = (_inspect(index, first + index, name) for index, name in enumerate(names))
        return cls(tuple(entries), environment)

    @classmethod
    def of_process(cls, environment: MutableMapping[str, str] = os.environ) -> InheritedSockets:
        """
        Give the sockets passed to this process, read the first time and remembered: over the fork, and after
        `forget`, so that nobody takes a descriptor's number for a socket that has long been closed.

        :raises BindError: as `from_environment`.
        """
        if not cls._process:
            read = cls.from_environment(environment, os.getpid())
            if not read._entries:
                return read
            cls._process.append(read)
        return cls._process[0]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each socket, in the order of their index."""
        return tuple(entry.name for entry in self._entries)

    @property
    def unused(self) -> tuple[str, ...]:
        """Descriptions, for a warning, of the sockets that nobody took: their clients would wait for ever."""
        return tuple(str(entry) for entry in self._entries if not entry.taken)

    def forget(self) -> None:
        """Remove the variables from the environment, so that child processes do not believe they are meant."""
        for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"):
            self._environment.pop(variable, None)

    def take(self, description: EndpointDescription, kind: SocketKind | None = None) -> BoundSocket:
        """
        Take the socket that a ``systemd:`` endpoint means.

        :param kind: ``stream`` or ``datagram``, what the listener needs; it also narrows the choice.
        :raises BindError: there is no such socket, more than one, it is taken, or it cannot be listened on.
        """
        refuse = refuser(description)
        if not self._entries:
            raise refuse(
                "no sockets were passed to this process (start it through its systemd socket unit or "
                "systemd-socket-activate)"
            )
        wanted = f"index {description.index}" if description.name is None else f"name '{shown(description.name)}'"
        available = "; passed are " + _listed(self._entries)
        found = [entry for entry in self._entries if description.name in (None, entry.name)]
        if description.index is not None:
            found = [entry for entry in found if entry.index == description.index]
        if not found:
            raise refuse(f"no socket was passed with {wanted}{available}")
        usable = [entry for entry in found if not entry.fault]
        if not usable:
            raise refuse(f"the socket passed with {wanted} cannot be used{available}")
        domain = None if description.domain is None else DOMAINS[description.domain]
        types = [SOCKET_TYPES[choice] for choice in (kind, description.socket_kind) if choice is not None]
        fitting = [
            entry
            for entry in usable
            if domain in (None, entry.family) and all(entry.type == wanted_type for wanted_type in types)
        ]
        if not fitting:
            needed = " ".join(word for word in (description.domain, kind or description.socket_kind) if word)
            raise refuse(f"the socket passed with {wanted} is not {needed}{available}")
        free = [entry for entry in fitting if not entry.taken]
        if not free:
            raise refuse(f"the socket passed with {wanted} is already used by another listener{available}")
        if len(free) > 1:
            raise refuse(f"several sockets were passed with {wanted}: add domain= or kind=, or use index={available}")
        return _take(free[0], description)

    def take_address(
        self, description: EndpointDescription, addresses: Iterable[Any], kind: SocketKind
    ) -> BoundSocket | None:
        """
        Take the socket that is already bound to one of `addresses`, as ``getsockname`` has them; None if there is
        no such socket, or it is taken.
        """
        wanted = list(addresses)
        for entry in self._entries:
            same_type = entry.type == SOCKET_TYPES[kind]
            if same_type and not entry.fault and not entry.taken and entry.address in wanted:
                return _take(entry, description)
        return None


def _take(entry: _Inherited, description: EndpointDescription) -> BoundSocket:
    entry.taken = True
    return BoundSocket(description, socket.socket(fileno=entry.descriptor), inherited=True)


def _listed(entries: tuple[_Inherited, ...]) -> str:
    shown = [str(entry) for entry in entries[:8]]
    return ", ".join(shown + [f"and {len(entries) - 8} more"] * (len(entries) > 8))


def refuser(description: EndpointDescription) -> Callable[[str], BindError]:
    return lambda reason: BindError(f"cannot listen on {shown(str(description))}: {reason}")
