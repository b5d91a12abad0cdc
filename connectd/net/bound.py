"""A socket that is bound: reactors adopt it and give it back."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorSocket
from twisted.internet.protocol import DatagramProtocol, ServerFactory
from twisted.python.failure import Failure

from connectd.net.datagram_port import BatchedProtocol, adopt
from connectd.net.endpoint import EndpointDescription, SocketKind, shown


class BindError(Exception):
    """A socket cannot be had: one line that names the endpoint, the cause and the way out."""


class _UnixPort(unix.Port):
    """
    A port over a unix socket that somebody else bound and keeps.

    Twisted's own way of adopting one opens it to everybody (mode 0666), shortens its backlog to 50, and at the end
    shuts the shared socket down and removes its path.
    """

    _shouldShutdown = False

    def startListening(self) -> None:
        """Accept connections from the adopted socket, as it is."""
        tcp._reservedFD.reserve()
        adopted = cast("socket.socket", self._preexistingSocket)
        self._preexistingSocket = None
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket = adopted
        self.fileno = adopted.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        cast("Any", self).startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close this descriptor of the socket, nothing more."""
        tcp.Port.connectionLost(self, reason)


class BoundSocket:
    """
    A bound socket, listening if it is a stream socket, that reactors adopt and give back.

    Adopting duplicates the descriptor, so a port that was stopped can be replaced by a new one on the same socket.
    In between, and before the first, the kernel goes on queueing connections: only `close` ends that.

    :ivar description: the endpoint it was made for.
    :ivar socket: the socket: non-blocking, not passed on to child processes.
    :ivar family: its address family.
    :ivar inherited: whether it came from systemd.
    :ivar address: where it really listens, for people: ``127.0.0.1:7890``, ``[::1]:7890``, ``unix:/path``.

    A dual-stack socket (all interfaces) reports IPv4 peers as mapped addresses, such as ``::ffff:192.0.2.1``; its
    datagrams have to be answered to that spelling.
    """

    __slots__ = ("_identity", "address", "description", "family", "inherited", "socket")

    def __init__(
        self,
        description: EndpointDescription,
        listener: socket.socket,
        *,
        inherited: bool,
        identity: tuple[int, int] | None = None,
    ) -> None:
        """
        :param listener: the socket, which this object owns from now on.
        :param identity: device and inode of the path to remove in the end, for a unix socket that we bound.
        """
        listener.setblocking(False)
        self.description = description
        self.socket = listener
        self.family = listener.family
        self.inherited = inherited
        self.address = address_text(listener.family, listener.getsockname())
        self._identity = identity

    def __repr__(self) -> str:
        return f"<BoundSocket {shown(self.address)}>"

    @property
    def kind(self) -> SocketKind:
        """``stream`` or ``datagram``: which of the two ways of adopting it is for."""
        return "stream" if self.socket.type == socket.SOCK_STREAM else "datagram"

    @property
    def port(self) -> int | None:
        """The TCP or UDP port, also when the kernel chose it; None for a unix socket."""
        if self.family == socket.AF_UNIX:
            return None
        return int(self.address.rpartition(":")[2])

    def adopt_stream(self, reactor: IReactorSocket, factory: IProtocolFactory) -> IListeningPort:
        """
        Accept connections for `factory`, until the returned port is stopped.

        :raises RuntimeError: the socket is closed or not a stream socket (`bind` can require one).
        """
        descriptor = self._descriptor("stream")
        if self.family != socket.AF_UNIX:
            # The interface asks for a ServerFactory, but any protocol factory serves.
            return reactor.adoptStreamPort(descriptor, self.family, cast("ServerFactory[Any]", factory))
        port = cast("Any", _UnixPort)._fromListeningDescriptor(reactor, descriptor, factory)
        port.startListening()
        return cast("IListeningPort", port)

    def adopt_datagram(
        self, reactor: IReactorSocket, protocol: DatagramProtocol, max_packet_size: int = 65535
    ) -> IListeningPort:
        """
        Receive datagrams for `protocol`, until the returned port is stopped.

        :param max_packet_size: bytes; what is longer is cut off.
        :raises RuntimeError: the socket is closed or not a datagram socket (`bind` can require one).
        """
        descriptor = self._descriptor("datagram")
        return reactor.adoptDatagramPort(descriptor, self.family, protocol, max_packet_size)

    def keep_alive(self) -> None:
        """Have the kernel look whether peers of a stream socket are still there, now and then: TCP keepalive.

        Accepted sockets take this over from the socket that they came in at.
        """
        if self.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def adopt_batches(self, reactor: Any, protocol: BatchedProtocol) -> IListeningPort:
        """
        Receive datagrams for `protocol` in batches, until the returned port is stopped; its ``send`` takes many.

        :raises RuntimeError: the socket is closed or not a datagram socket (`bind` can require one).
        """
        return adopt(reactor, protocol, self._descriptor("datagram"), self.family)

    def _descriptor(self, kind: SocketKind) -> int:
        descriptor = self.socket.fileno()
        if descriptor < 0:
            raise RuntimeError(f"{self.address} is closed")
        if self.kind != kind:
            raise RuntimeError(f"{self.address} is a {self.kind} socket, not a {kind} socket")
        return descriptor

    def close(self) -> None:
        """
        Stop listening, and remove the path of a unix socket that we bound, unless something else stands there.

        Ports that adopted the socket are not affected: stop them first. A second call does nothing.
        """
        identity, self._identity = self._identity, None
        # The inode's number stays ours for as long as the socket is open, hence the order.
        if identity is not None:
            remove_path(self.description.path, identity)
        self.socket.close()


def remove_path(path: str, identity: tuple[int, int]) -> None:
    """Remove `path` if it is still the file with this device and inode. A path that has to stay does no harm."""
    try:
        if file_identity(os.lstat(path)) == identity:
            os.unlink(path)
    except OSError:
        pass


def file_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def address_text(family: int, address: Any) -> str:
    """Write what ``getsockname`` returned for a person."""
    if family == socket.AF_UNIX:
        name = os.fsdecode(address)
        return f"unix:@{name[1:]}" if name.startswith("\0") else f"unix:{name}"
    host, port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
