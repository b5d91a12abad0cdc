"""
Listening sockets: described by endpoint texts, bound or inherited before the daemon forks, adopted by the reactor
afterwards.

Binding early is what lets a start that cannot listen end with one line and a failure status, lets a privileged
port be bound before the user is changed, and finds systemd's sockets while the process still has the number they
were passed to.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from typing import Any, Final

from connectd.net.bound import BoundSocket, file_identity, remove_path
from connectd.net.endpoint import DEFAULT_MODE, EndpointDescription, SocketKind, shown
from connectd.net.inherited import InheritedSockets, refuser

MAX_PATH_LENGTH: Final = 107
"""Longest path of a unix socket in bytes, as the kernel's address structure has it."""


def bind(
    description: EndpointDescription,
    *,
    environment: MutableMapping[str, str] = os.environ,
    inherited: InheritedSockets | None = None,
    kind: SocketKind | None = None,
) -> BoundSocket:
    """
    Bind the socket of an endpoint and make it listen, or take the inherited one: the one that a ``systemd:``
    endpoint names, or the one already bound to exactly the address of another endpoint.

    A unix socket replaces one whose program is gone. It never has wider permissions than it will end up with.

    :param environment: where systemd's variables are.
    :param inherited: the sockets to take from; those of the process (`InheritedSockets.of_process`) if not given.
    :param kind: ``stream`` or ``datagram``: what the listener needs, if it does not go without saying.
    :raises BindError: the socket cannot be had; its text is one line.
    """
    if inherited is None:
        inherited = InheritedSockets.of_process(environment)
    if description.kind == "systemd":
        return inherited.take(description, kind)
    own: SocketKind = "datagram" if description.kind == "udp" else "stream"
    if kind not in (None, own):
        needed = "udp: or systemd:" if kind == "datagram" else "tcp:, unix: or systemd:"
        raise refuser(description)(f"this listener needs a {kind} socket (write {needed})")
    if description.kind == "unix":
        paths = (description.path, os.path.abspath(description.path))
        return inherited.take_address(description, paths, own) or _bind_unix(description)
    choices = _internet_addresses(description)
    taken = None
    if description.port:
        taken = inherited.take_address(description, [address for _, address in choices], own)
    return taken or _bind_internet(description, choices)


def _internet_addresses(description: EndpointDescription) -> list[tuple[int, Any]]:
    """List the families and addresses to bind, best first, the way ``getsockname`` writes them."""
    if description.interface is None:
        addresses: list[tuple[int, Any]] = [(socket.AF_INET, ("0.0.0.0", description.port))]  # noqa: S104
        if socket.has_ipv6:
            addresses.insert(0, (socket.AF_INET6, ("::", description.port, 0, 0)))
        return addresses
    try:
        found = socket.getaddrinfo(
            description.interface,
            description.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE,
        )
    except OSError as error:
        reason = f"the address {description.interface} cannot be used here ({error.strerror})"
        raise refuser(description)(reason) from None
    return [(found[0][0], found[0][4])]


def _bind_internet(description: EndpointDescription, choices: list[tuple[int, Any]]) -> BoundSocket:
    (family, address), *others = choices
    stream = description.kind == "tcp"
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        if stream:
            # Without it, connections of a previous run that are still closing would keep the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        if stream:
            listener.listen(description.backlog)
        return BoundSocket(description, listener, inherited=False)
    except OSError as error:
        if listener is not None:
            listener.close()
        if others and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            # This machine has no IPv6, or has it switched off.
            return _bind_internet(description, others)
        raise refuser(description)(_internet_reason(error, description)) from None


def _internet_reason(error: OSError, description: EndpointDescription) -> str:
    port = description.port
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is already in use (another program listens there; choose another port or stop it)"
    if error.errno in (errno.EACCES, errno.EPERM):
        if port < 1024:
            return (
                f"permission denied (a port below 1024, such as {port}, needs root or CAP_NET_BIND_SERVICE; "
                "choose another port or start with one of them)"
            )
        return f"permission denied (a security policy of this system forbids port {port}; choose another port)"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"the address {description.interface} does not belong to this machine (write one that does, or leave "
            "interface= out to listen on all)"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return f"this machine cannot use the address {description.interface} (write one of another family)"
    return _other_reason(error)


def _other_reason(error: OSError) -> str:
    return f"the system refuses: {error.strerror or error}"


def _bind_unix(description: EndpointDescription) -> BoundSocket:
    path = description.path
    refuse = refuser(description)
    length = len(os.fsencode(path))
    if length > MAX_PATH_LENGTH:
        raise refuse(
            f"the path is too long: {length} bytes where {MAX_PATH_LENGTH} are possible (choose a shorter one)"
        )
    identity = None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Made for its owner at most, then opened as far as it is to be: it is at no time more open than that, and
        # neither is a file that a thread happens to create meanwhile.
        previous = os.umask(0o777 & ~(description.mode & DEFAULT_MODE))
        try:
            listener.bind(path)
        finally:
            os.umask(previous)
        identity = file_identity(os.lstat(path))
        if description.mode & ~DEFAULT_MODE:
            _chmod(path, description.mode)
        listener.listen(description.backlog)
        return BoundSocket(description, listener, inherited=False, identity=identity)
    except (OSError, _PathTaken) as error:
        if identity is not None:
            remove_path(path, identity)
        listener.close()
        raise refuse(str(error) if isinstance(error, _PathTaken) else _unix_reason(error, path)) from None


def _chmod(path: str, mode: int) -> None:
    """Change the mode of a file, not of one that a link in its place may point to, where the system can tell."""
    try:
        os.chmod(path, mode, follow_symlinks=False)
    except NotImplementedError:
        os.chmod(path, mode)


class _PathTaken(Exception):
    """Something stands where a unix socket is to be, and has to stay."""


def _remove_stale(path: str) -> None:
    """Remove the socket file at `path` if nobody listens on it any more."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise _PathTaken("the path exists and is not a socket (choose another path or remove what is there)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog answers "try again": somebody is there.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            remove_path(path, file_identity(status))
            return
        except PermissionError:
            raise _PathTaken(
                "permission denied to the socket that is already there (another user's program may listen on it; "
                "choose another path or remove it)"
            ) from None
        except OSError:
            pass
    raise _PathTaken("the socket is already in use (another program answers there; choose another path or stop it)")


def _unix_reason(error: OSError, path: str) -> str:
    directory = shown(os.path.dirname(path) or ".")
    if error.errno == errno.ENOENT:
        return f"the directory {directory} does not exist (create it or choose another path)"
    if error.errno == errno.ENOTDIR:
        return f"{directory} is not a directory (choose another path)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied (this user may not write to the directory {directory})"
    if error.errno == errno.EADDRINUSE:
        return "the path is already in use (remove what is there or choose another path)"
    return _other_reason(error)
