from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial import unittest

from connectd.net.bound import BindError, BoundSocket
from connectd.net.endpoint import EndpointDescription, EndpointError, parse_endpoint
from connectd.net.inherited import InheritedSockets
from connectd.net.progress import bytes_acknowledged
from connectd.net.sockets import bind

reactor: Any = installed_reactor

NOWHERE: dict[str, str] = {}
"""An environment in which systemd passed nothing."""


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


NO_IPV6 = "" if has_ipv6() else "this machine has no IPv6 loopback"


def free_path(case: unittest.SynchronousTestCase) -> str:
    """A path for a unix socket: short, which trial's own directories are not always."""
    path = case.mktemp()
    os.makedirs(path)
    directory = os.open(path, os.O_RDONLY)
    case.addCleanup(os.close, directory)
    return f"/proc/self/fd/{directory}/s"


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError("the condition did not come true")
        time.sleep(0.001)


class ParseTests(unittest.SynchronousTestCase):
    def test_forms(self) -> None:
        """Each accepted form, and its canonical text."""
        for text, expected, canonical in (
            ("tcp:7890", EndpointDescription("tcp", port=7890), None),
            ("TCP:0", EndpointDescription("tcp", port=0), "tcp:0"),
            ("tcp:65535:backlog=5", EndpointDescription("tcp", port=65535, backlog=5), None),
            ("tcp:1:interface=127.0.0.1", EndpointDescription("tcp", port=1, interface="127.0.0.1"), None),
            (
                "tcp:1:backlog=1024:interface=localhost",
                EndpointDescription("tcp", port=1, interface="127.0.0.1"),
                "tcp:1:interface=127.0.0.1",
            ),
            ("tcp:1:interface=[::1]", EndpointDescription("tcp", port=1, interface="::1"), None),
            (
                r"tcp:1:interface=\:\:1:backlog=9",
                EndpointDescription("tcp", port=1, interface="::1", backlog=9),
                "tcp:1:interface=[::1]:backlog=9",
            ),
            (
                "udp:1:interface=[2001:DB8:0::1]",
                EndpointDescription("udp", port=1, interface="2001:db8::1"),
                "udp:1:interface=[2001:db8::1]",
            ),
            (
                "udp:1:interface=[::ffff:192.0.2.1]",
                EndpointDescription("udp", port=1, interface="192.0.2.1"),
                "udp:1:interface=192.0.2.1",
            ),
            ("udp:1:interface=[fe80::1%lo]", EndpointDescription("udp", port=1, interface="fe80::1%lo"), None),
            ("unix:/run/x", EndpointDescription("unix", path="/run/x"), None),
            ("unix:/run/x:mode=660", EndpointDescription("unix", path="/run/x", mode=0o660), None),
            ("unix:x:mode=0007", EndpointDescription("unix", path="x", mode=0o007), "unix:x:mode=007"),
            (r"unix:a\:b\=c\\d[e", EndpointDescription("unix", path="a:b=c\\d[e"), None),
            ("systemd:name=lekt", EndpointDescription("systemd", name="lekt"), None),
            ("systemd:index=2", EndpointDescription("systemd", index=2), None),
            (
                "systemd:domain=inet6:kind=STREAM:name=[x]=1",
                EndpointDescription("systemd", name="[x]=1", domain="INET6", socket_kind="stream"),
                r"systemd:name=[x]\=1:domain=INET6:kind=stream",
            ),
        ):
            self.assertEqual(parse_endpoint(text), expected)
            self.assertEqual(str(expected), canonical or text)
            self.assertEqual(parse_endpoint(str(expected)), expected)

    def test_defaults(self) -> None:
        """A backlog that survives a burst; a unix socket that is its owner's; all interfaces."""
        tcp, unix = parse_endpoint("tcp:1"), parse_endpoint("unix:x")
        self.assertEqual((tcp.backlog, tcp.interface, unix.mode), (1024, None, 0o600))

    def test_refused(self) -> None:
        """One line that names the text, the fault and the form to write."""
        tcp, udp, unix, systemd = (
            "tcp:PORT[:interface=ADDRESS][:backlog=N]",
            "udp:PORT[:interface=ADDRESS]",
            "unix:PATH[:mode=600]",
            "systemd:name=NAME or systemd:index=N",
        )
        for text, reason, forms in (
            ("", "it is empty", (tcp, udp, unix, systemd)),
            ("7890", "begins with none of the known kinds", (tcp, udp, unix, systemd)),
            ("tcp=1", "begins with none of the known kinds", (tcp, udp, unix, systemd)),
            ("ssl:1", "begins with none of the known kinds", (tcp, udp, unix, systemd)),
            ("tcp:1\\", "backslash that escapes nothing", (tcp, udp, unix, systemd)),
            ("tcp:1:interface=[::1", "not closed", (tcp, udp, unix, systemd)),
            ("tcp:1:=x", "no name before its equals sign", (tcp, udp, unix, systemd)),
            ("tcp", "the port is missing (a number from 0 to 65535)", (tcp,)),
            ("tcp:", "the port is missing", (tcp,)),
            ("tcp:1:interface=::1", "is an IPv6 address without brackets: interface=[::1]", (tcp,)),
            ("tcp:1:interface=2001:db8::1", "IPv6 address needs brackets: interface=[::1]", (tcp,)),
            ("tcp:65536", "the port '65536' is not possible", (tcp,)),
            ("tcp:-1", "'-1'", (tcp,)),
            ("tcp:http", "'http'", (tcp,)),
            ("tcp:٣", "'٣'", (tcp,)),
            ("tcp:" + "9" * 5000, "is not possible", (tcp,)),
            ("tcp:1:2", "the part '2' is not an option", (tcp,)),
            ("tcp:1:backlog=0", "the backlog '0' is not possible (a number from 1 to 65535)", (tcp,)),
            ("tcp:1:mode=600", "tcp has no option 'mode'", (tcp,)),
            ("tcp:1:backlog=", "the option backlog has no value", (tcp,)),
            ("tcp:1:backlog=1:backlog=2", "the option backlog is there twice", (tcp,)),
            ("tcp:1:interface=example.net", "'example.net' is not a numeric address or localhost", (tcp,)),
            ("tcp:1:interface=[::1]x", "'[::1]x' is not a numeric address", (tcp,)),
            ("tcp:1:interface=[127.0.0.1]", "brackets are for an IPv6 address", (tcp,)),
            ("udp:1:backlog=5", "udp has no option 'backlog'", (udp,)),
            ("unix:", "the path is missing", (unix,)),
            ("unix:mode=600", "the path is missing", (unix,)),
            ("unix:a\0b", "zero byte", (unix,)),
            ("unix:x:mode=999", "'999' is not three octal digits", (unix,)),
            ("unix:x:mode=4755", "'4755' is not three octal digits", (unix,)),
            ("systemd:", "the part '' is not an option", (systemd,)),
            ("systemd", "either a name or an index", (systemd,)),
            ("systemd:name=a:index=1", "either a name or an index", (systemd,)),
            ("systemd:index=x", "the index 'x' is not possible", (systemd,)),
            ("systemd:index=0:domain=X25", "'X25' is not INET, INET6 or UNIX", (systemd,)),
            ("systemd:index=0:kind=raw", "'raw' is not stream or datagram", (systemd,)),
            ("systemd:index=0:domain=UNIX:kind=datagram", "not supported", (systemd,)),
        ):
            error = self.assertRaises(EndpointError, parse_endpoint, text)
            self.assertIsInstance(error, ValueError)
            self.assertIn(reason, str(error))
            for form in (tcp, udp, unix, systemd):
                self.assertEqual(form in str(error), form in forms, (text, form))
        error = self.assertRaises(EndpointError, parse_endpoint, "tcp:1\n2")
        self.assertTrue(str(error).startswith(r"cannot read endpoint 'tcp:1\x0a2': the port '1\x0a2' is not possible"))

    @settings(deadline=None, max_examples=200)
    @given(st.text(alphabet=st.sampled_from("tcpudnixsyem:=[]\\/0129.%\n\0aé-"), max_size=30))
    def test_any_text(self, text: str) -> None:
        """Whatever is written, the answer is a description that reads back, or one line."""
        for prefix in ("", "tcp:1:interface=", "unix:", "systemd:name="):
            try:
                description = parse_endpoint(prefix + text)
            except EndpointError as error:
                self.assertTrue(str(error).isprintable(), str(error))
            else:
                self.assertEqual(parse_endpoint(str(description)), description)


class SocketCase(unittest.SynchronousTestCase):
    def bind(self, text: str, **options: Any) -> BoundSocket:
        bound = bind(parse_endpoint(text), environment=NOWHERE, **options)
        self.addCleanup(bound.close)
        return bound

    def refused(self, text: str, **options: Any) -> str:
        error = self.assertRaises(BindError, self.bind, text, **options)
        self.assertNotIsInstance(error, OSError)
        message = str(error)
        start = f"cannot listen on {parse_endpoint(text)}: "
        self.assertTrue(message.startswith(start), message)
        self.assertTrue(message.isprintable())
        return message[len(start) :]

    def fail_to_bind(self, number: int) -> None:
        """From now on the system refuses every bind with this error."""

        class Refused(socket.socket):
            def bind(self, address: Any) -> None:
                raise OSError(number, os.strerror(number))

        self.patch(socket, "socket", Refused)


class InternetTests(SocketCase):
    def test_tcp(self) -> None:
        """A TCP socket listens with a port of the kernel's choice, non-blocking, closed in child processes."""
        bound = self.bind("tcp:0:interface=127.0.0.1")
        self.assertEqual(bound.family, socket.AF_INET)
        self.assertEqual((bound.kind, bound.inherited), ("stream", False))
        self.assertEqual(bound.socket.gettimeout(), 0)
        self.assertFalse(os.get_inheritable(bound.socket.fileno()))
        self.assertTrue(bound.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        self.assertTrue(bound.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
        assert bound.port
        self.assertEqual(bound.address, f"127.0.0.1:{bound.port}")
        self.assertEqual(repr(bound), f"<BoundSocket 127.0.0.1:{bound.port}>")
        self.assertFalse(hasattr(bound, "__dict__"))
        with socket.create_connection(("127.0.0.1", bound.port)):
            pass

    def test_backlog(self) -> None:
        """The backlog reaches the kernel: as many connections wait, and not more."""
        bound = self.bind("tcp:0:interface=127.0.0.1:backlog=3")
        if not sys.platform.startswith("linux"):
            raise unittest.SkipTest("reads Linux's TCP_INFO")
        # For a listening socket, tcpi_sacked holds the backlog.
        information = bound.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        self.assertEqual(int.from_bytes(information[28:32], sys.byteorder), 3)

    def test_udp(self) -> None:
        """A UDP socket is bound, and shares its port with nobody."""
        bound = self.bind("udp:0:interface=127.0.0.1")
        self.assertEqual((bound.kind, bound.socket.type), ("datagram", socket.SOCK_DGRAM))
        self.assertFalse(bound.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
        reason = self.refused(f"udp:{bound.port}:interface=127.0.0.1")
        self.assertTrue(reason.startswith(f"port {bound.port} is already in use (another program listens there;"))

    def test_ipv6(self) -> None:
        """An IPv6 address, with and without a scope."""
        if NO_IPV6:
            raise unittest.SkipTest(NO_IPV6)
        bound = self.bind("tcp:0:interface=[::1]")
        self.assertEqual(bound.family, socket.AF_INET6)
        self.assertEqual(bound.address, f"[::1]:{bound.port}")
        with socket.create_connection(("::1", bound.port)):
            pass
        reason = self.refused("tcp:0:interface=[fe80::1%nosuchinterface0]")
        self.assertTrue(reason.startswith("the address fe80::1%nosuchinterface0 cannot be used here ("), reason)

    def test_all_interfaces(self) -> None:
        """Without an interface, IPv6 and IPv4 clients reach the same socket."""
        if NO_IPV6:
            raise unittest.SkipTest(NO_IPV6)
        # Where the system would separate the two, it is our option that joins them.
        bound = self.bind("tcp:0")
        self.assertEqual(bound.address, f"[::]:{bound.port}")
        self.assertEqual(bound.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 0)
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, bound.port)):
                pass
        self.assertEqual(self.bind("udp:0").family, socket.AF_INET6)

    def test_no_ipv6(self) -> None:
        """Where there is no IPv6, or it is switched off, all interfaces are those of IPv4."""
        real = socket.socket

        def lacking(number: int) -> type[socket.socket]:
            class Lacking(socket.socket):
                def __init__(self, family: int = -1, type: int = -1, *arguments: Any, **options: Any) -> None:
                    if family == socket.AF_INET6 and number == errno.EAFNOSUPPORT:
                        raise OSError(number, "no such family")
                    super().__init__(family, type, *arguments, **options)

                def bind(self, address: Any) -> None:
                    if self.family == socket.AF_INET6:
                        raise OSError(number, "switched off")
                    super().bind(address)

            return Lacking

        absent, off, forbidden = map(lacking, (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EACCES))
        for unable in (absent, off):
            self.patch(socket, "socket", unable)
            bound = self.bind("tcp:0")
            self.assertEqual((bound.family, bound.address), (socket.AF_INET, f"0.0.0.0:{bound.port}"))
        self.patch(socket, "socket", forbidden)
        self.assertIn("permission denied", self.refused("tcp:0"))
        self.patch(socket, "socket", absent)
        self.assertEqual(
            self.refused("tcp:0:interface=[::1]"),
            "this machine cannot use the address ::1 (write one of another family)",
        )
        self.patch(socket, "socket", real)
        self.patch(socket, "has_ipv6", False)
        self.assertEqual(self.bind("udp:0").family, socket.AF_INET)

    def test_in_use(self) -> None:
        """A taken port is named, with the way out."""
        bound = self.bind("tcp:0:interface=127.0.0.1")
        self.assertEqual(
            self.refused(f"tcp:{bound.port}:interface=127.0.0.1"),
            f"port {bound.port} is already in use (another program listens there; choose another port or stop it)",
        )

    def test_foreign_address(self) -> None:
        """An address of another machine is named."""
        reason = self.refused("tcp:0:interface=192.0.2.1")
        self.assertTrue(reason.startswith("the address 192.0.2.1 does not belong to this machine ("), reason)

    def test_other_causes(self) -> None:
        """Every other cause has words of its own, or the system's."""
        for number, text, reason in (
            (errno.EACCES, "tcp:80", "permission denied (a port below 1024, such as 80, needs root or CAP_NET_BIND"),
            (errno.EPERM, "udp:1023", "permission denied (a port below 1024, such as 1023, needs root"),
            (errno.EACCES, "tcp:1024", "permission denied (a security policy of this system forbids port 1024"),
            (errno.ENOBUFS, "tcp:1024", "the system refuses: "),
        ):
            self.fail_to_bind(number)
            self.assertTrue(self.refused(text).startswith(reason), number)

    def test_required_kind(self) -> None:
        """A listener that needs the other kind of socket is refused one, before anything is bound."""
        self.assertEqual(
            self.refused("udp:0", kind="stream"),
            "this listener needs a stream socket (write tcp:, unix: or systemd:)",
        )
        for text in ("tcp:0", "unix:x"):
            self.assertEqual(
                self.refused(text, kind="datagram"),
                "this listener needs a datagram socket (write udp: or systemd:)",
            )
        self.assertEqual(self.bind("tcp:0:interface=127.0.0.1", kind="stream").kind, "stream")
        self.assertEqual(self.bind("udp:0:interface=127.0.0.1", kind="datagram").kind, "datagram")

    def test_close(self) -> None:
        """A closed socket accepts nothing and cannot be adopted; closing twice is closing."""
        bound = self.bind("tcp:0:interface=127.0.0.1")
        bound.close()
        bound.close()
        assert bound.port
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", bound.port))
        error = self.assertRaises(RuntimeError, bound.adopt_stream, reactor, Factory())
        self.assertEqual(str(error), f"127.0.0.1:{bound.port} is closed")

    def test_wrong_adoption(self) -> None:
        """A datagram socket is not adopted as a stream socket, nor the other way round."""
        tcp, udp = self.bind("tcp:0:interface=127.0.0.1"), self.bind("udp:0:interface=127.0.0.1")
        error = self.assertRaises(RuntimeError, udp.adopt_stream, reactor, Factory())
        self.assertEqual(str(error), f"{udp.address} is a datagram socket, not a stream socket")
        error = self.assertRaises(RuntimeError, tcp.adopt_datagram, reactor, DatagramProtocol())
        self.assertEqual(str(error), f"{tcp.address} is a stream socket, not a datagram socket")


class UnixTests(SocketCase):
    def test_unix(self) -> None:
        """A unix socket listens at its path, for its owner only, and takes its file with it."""
        path = free_path(self)
        bound = self.bind(f"unix:{path}")
        self.assertEqual((bound.family, bound.port), (socket.AF_UNIX, None))
        self.assertEqual((bound.address, bound.kind), (f"unix:{path}", "stream"))
        self.assertEqual(stat.S_IMODE(os.lstat(path).st_mode), 0o600)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        bound.close()
        self.assertFalse(os.path.lexists(path))
        bound.close()

    def test_mode(self) -> None:
        """The mode is exactly the one asked for when the socket starts to listen, and never wider before."""
        seen: list[int] = []

        class Watched(socket.socket):
            def bind(self, address: Any) -> None:
                super().bind(address)
                seen.append(stat.S_IMODE(os.lstat(address).st_mode))

            def listen(self, backlog: int = 0) -> None:
                seen.append(stat.S_IMODE(os.lstat(path).st_mode))
                super().listen(backlog)

        self.patch(socket, "socket", Watched)
        for umask, mode in product((0o000, 0o077, 0o777), (0o600, 0o666, 0o660, 0o400, 0o070, 0o000)):
            path = free_path(self)
            previous = os.umask(umask)
            try:
                self.bind(f"unix:{path}:mode={mode:03o}")
            finally:
                after = os.umask(previous)
            self.assertEqual((seen, after), ([mode & 0o600, mode], umask))
            seen.clear()

    def test_mode_without_nofollow(self) -> None:
        """Where the system cannot change a mode without following links, it is changed nevertheless."""
        real = os.chmod

        def limited(path: str, mode: int, *, follow_symlinks: bool = True) -> None:
            if not follow_symlinks:
                raise NotImplementedError
            real(path, mode)

        self.patch(os, "chmod", limited)
        path = free_path(self)
        self.bind(f"unix:{path}:mode=666")
        self.assertEqual(stat.S_IMODE(os.lstat(path).st_mode), 0o666)

    def test_stale(self) -> None:
        """A socket file whose program is gone is replaced."""
        path = free_path(self)
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(path)
            gone.listen()
        self.assertTrue(os.path.lexists(path))
        self.bind(f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)

    def test_in_use(self) -> None:
        """A socket on which somebody answers is left alone, also when too busy to answer now."""
        path = free_path(self)
        message = "the socket is already in use (another program answers there; choose another path or stop it)"
        self.bind(f"unix:{path}")
        self.assertEqual(self.refused(f"unix:{path}"), message)
        busy = free_path(self)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(busy)
            listener.listen(0)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(busy)
                self.assertEqual(self.refused(f"unix:{busy}"), message)
        datagrams = free_path(self)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(datagrams)
            self.assertEqual(self.refused(f"unix:{datagrams}"), message)
        for kept in (path, busy, datagrams):
            self.assertTrue(stat.S_ISSOCK(os.lstat(kept).st_mode))

    def test_forbidden(self) -> None:
        """A socket that we may not connect to is not taken for a stale one."""

        class Forbidden(socket.socket):
            def connect(self, address: Any) -> None:
                raise PermissionError(errno.EACCES, "no")

        path = free_path(self)
        self.bind(f"unix:{path}")
        self.patch(socket, "socket", Forbidden)
        self.assertTrue(self.refused(f"unix:{path}").startswith("permission denied to the socket that is already"))
        self.assertTrue(os.path.lexists(path))

    def test_not_a_socket(self) -> None:
        """Whatever is at the path and is no socket stays: a file, a directory, a link."""
        path = free_path(self)
        Path(path).write_text("precious")
        link = free_path(self)
        os.symlink(path, link)
        directory = free_path(self)
        os.mkdir(directory)
        for taken in (path, link, directory):
            self.assertEqual(
                self.refused(f"unix:{taken}"),
                "the path exists and is not a socket (choose another path or remove what is there)",
            )
        self.assertEqual(Path(link).read_text(), "precious")

    def test_paths(self) -> None:
        """A path that cannot be is refused with the reason."""
        path = free_path(self)
        Path(path).write_text("")
        for text, reason in (
            ("/" + "x" * 107, "the path is too long: 108 bytes where 107 are possible (choose a shorter one)"),
            ("/" + "é" * 54, "the path is too long: 109 bytes where 107 are possible (choose a shorter one)"),
            (f"{path}2/s", f"the directory {path}2 does not exist (create it or choose another path)"),
            (f"{path}/s", f"{path} is not a directory (choose another path)"),
        ):
            self.assertEqual(self.refused(f"unix:{text}"), reason)
        for number, reason in (
            (errno.EACCES, f"permission denied (this user may not write to the directory {os.path.dirname(path)})"),
            (errno.EADDRINUSE, "the path is already in use (remove what is there or choose another path)"),
            (errno.EROFS, "the system refuses: Read-only file system"),
        ):
            self.fail_to_bind(number)
            self.assertEqual(self.refused(f"unix:{path}2"), reason)
        self.fail_to_bind(errno.EACCES)
        self.assertIn("the directory .)", self.refused("unix:nowhere"))

    def test_nothing_left_behind(self) -> None:
        """A socket that was bound but cannot listen leaves no file."""

        class Deaf(socket.socket):
            def listen(self, backlog: int = 0) -> None:
                raise OSError(errno.ENOBUFS, "no room")

        self.patch(socket, "socket", Deaf)
        path = free_path(self)
        self.assertEqual(self.refused(f"unix:{path}"), "the system refuses: no room")
        self.assertFalse(os.path.lexists(path))

    def test_close_spares_successor(self) -> None:
        """What somebody else put at the path in the meantime is not removed."""
        path = free_path(self)
        bound = self.bind(f"unix:{path}")
        os.unlink(path)
        Path(path).write_text("somebody else's")
        bound.close()
        self.assertEqual(Path(path).read_text(), "somebody else's")
        gone = free_path(self)
        bound = self.bind(f"unix:{gone}")
        os.unlink(gone)
        bound.close()


class Greeter(Factory):
    """Says a word to every client and closes."""

    def __init__(self, word: bytes) -> None:
        self.word = word

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        factory = self

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(factory.word)
                self.transport.loseConnection()

        return Greeting()


class Reading(Protocol):
    """Collects what it receives until the connection is over."""

    def __init__(self) -> None:
        self.received = b""
        self.over: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.over.callback(self.received)


class Echoing(DatagramProtocol):
    def datagramReceived(self, datagram: bytes, address: Any) -> None:
        assert self.transport is not None
        self.transport.write(datagram.upper(), address)


class Asking(DatagramProtocol):
    def __init__(self) -> None:
        self.answered: Deferred[bytes] = Deferred()

    def datagramReceived(self, datagram: bytes, address: Any) -> None:
        self.answered.callback(datagram)


class AdoptionTests(unittest.TestCase):
    timeout = 20.0

    def bind(self, text: str) -> BoundSocket:
        bound = bind(parse_endpoint(text), environment=NOWHERE)
        self.addCleanup(bound.close)
        return bound

    async def hear(self, bound: BoundSocket) -> bytes:
        """What a client of the socket hears."""
        reading = Reading()
        endpoint = (
            UNIXClientEndpoint(reactor, bound.description.path)
            if bound.port is None
            else TCP4ClientEndpoint(reactor, "127.0.0.1", bound.port)
        )
        await connectProtocol(endpoint, reading)
        return await reading.over

    async def check_stream(self, bound: BoundSocket) -> None:
        for word in (b"one", b"two", b"three"):
            port = bound.adopt_stream(reactor, Greeter(word))
            self.assertTrue(IListeningPort.providedBy(port))
            self.assertEqual([await self.hear(bound) for _ in range(3)], [word] * 3)
            await self.stop(port)

    async def stop(self, port: IListeningPort) -> None:
        stopped = port.stopListening()
        if stopped is not None:
            await stopped

    async def test_tcp(self) -> None:
        """A port can be stopped and its socket adopted again, more than once."""
        await self.check_stream(self.bind("tcp:0:interface=127.0.0.1"))

    async def test_all_interfaces(self) -> None:
        """The same with a socket for all interfaces."""
        await self.check_stream(self.bind("tcp:0"))

    async def test_unix(self) -> None:
        """COM-8: the same with a unix socket, which keeps its mode and its path until it is closed."""
        path = free_path(self)
        bound = self.bind(f"unix:{path}:mode=660")
        await self.check_stream(bound)
        self.assertEqual(stat.S_IMODE(os.lstat(path).st_mode), 0o660)
        port = bound.adopt_stream(reactor, Greeter(b""))
        self.assertEqual(stat.S_IMODE(os.lstat(path).st_mode), 0o660)
        host: Any = port.getHost()
        self.assertEqual(os.fsdecode(host.name), path)
        await self.stop(port)
        bound.close()
        self.assertFalse(os.path.lexists(path))

    async def test_unix_backlog(self) -> None:
        """Adopting a unix socket does not shorten its queue to Twisted's 50."""
        bound = self.bind(f"unix:{free_path(self)}")
        port = bound.adopt_stream(reactor, Greeter(b""))
        waiting = []
        try:
            for _ in range(60):
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)
                client.connect(bound.description.path)
        finally:
            for client in waiting:
                client.close()
            await self.stop(port)

    async def test_queue(self) -> None:
        """Clients that come before the reactor runs, or between two ports, are served by the next port."""
        for text in ("tcp:0:interface=127.0.0.1", f"unix:{free_path(self)}"):
            bound = self.bind(text)
            for word in (b"first", b"second"):
                early = self.hear(bound)
                waiting = Deferred.fromCoroutine(early)
                port = bound.adopt_stream(reactor, Greeter(word))
                self.assertEqual(await waiting, word)
                await self.stop(port)

    async def test_adopted_survives_close(self) -> None:
        """The adopted port has its own descriptor: closing ours does not end it."""
        bound = self.bind("tcp:0:interface=127.0.0.1")
        port = bound.adopt_stream(reactor, Greeter(b"still here"))
        bound.close()
        self.assertEqual(await self.hear(bound), b"still here")
        await self.stop(port)

    async def test_udp(self) -> None:
        """Datagram sockets likewise; the largest datagram passes."""
        bound = self.bind("udp:0:interface=127.0.0.1")
        for question in (b"a", b"b" * 60000):
            port = bound.adopt_datagram(reactor, Echoing())
            asking = Asking()
            client = reactor.listenUDP(0, asking, interface="127.0.0.1", maxPacketSize=65535)
            client.write(question, ("127.0.0.1", bound.port))
            self.assertEqual(await asking.answered, question.upper())
            await self.stop(client)
            await self.stop(port)


class InheritanceTests(SocketCase):
    """Sockets as systemd passes them, but at descriptors of our choice."""

    def pass_on(self, *descriptors: int, names: str | None = None) -> InheritedSockets:
        """Copy the descriptors, blocking and inheritable, to consecutive numbers, and read them."""
        first = 400
        while any(os.path.exists(f"/proc/self/fd/{first + index}") for index in range(len(descriptors))):
            first += 1
        for index, descriptor in enumerate(descriptors):
            os.dup2(descriptor, first + index)
            self.addCleanup(self.close_descriptor, first + index)
        self.environment = {"LISTEN_PID": "77", "LISTEN_FDS": str(len(descriptors)), "HOME": "/"}
        if names is not None:
            self.environment["LISTEN_FDNAMES"] = names
        self.first = first
        return InheritedSockets.from_environment(self.environment, 77, first=first)

    def close_descriptor(self, descriptor: int) -> None:
        try:
            os.close(descriptor)
        except OSError:
            pass

    def make(self, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM) -> socket.socket:
        made = socket.socket(family, type)
        self.addCleanup(made.close)
        return made

    def listener(self, host: str = "127.0.0.1") -> socket.socket:
        made = self.make(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.bind((host, 0))
        made.listen()
        return made

    def receiver(self) -> socket.socket:
        made = self.make(type=socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        return made

    def test_by_name(self) -> None:
        """A passed socket is taken by its name: non-blocking, and kept from child processes."""
        listener, receiver = self.listener(), self.receiver()
        inherited = self.pass_on(listener.fileno(), receiver.fileno(), names="lekt:alloy")
        self.assertEqual((inherited.names, len(inherited)), (("lekt", "alloy"), 2))
        for index in range(2):
            self.assertFalse(os.get_inheritable(self.first + index))
            self.assertFalse(os.get_blocking(self.first + index))
        bound = self.bind("systemd:name=alloy", inherited=inherited)
        self.assertEqual((bound.kind, bound.inherited), ("datagram", True))
        self.assertEqual(bound.address, f"127.0.0.1:{receiver.getsockname()[1]}")
        self.assertEqual(bound.socket.gettimeout(), 0)
        self.assertEqual(inherited.unused, (f"0 'lekt' (stream 127.0.0.1:{listener.getsockname()[1]})",))
        bound = self.bind("systemd:name=lekt", inherited=inherited)
        self.assertEqual((bound.kind, bound.socket.fileno()), ("stream", self.first))
        self.assertEqual(inherited.unused, ())

    def test_by_index(self) -> None:
        """A passed socket is taken by its number, also without names."""
        listeners = [self.listener(), self.listener()]
        inherited = self.pass_on(*(listener.fileno() for listener in listeners))
        self.assertEqual(inherited.names, ("unknown", "unknown"))
        bound = self.bind("systemd:index=1", inherited=inherited)
        self.assertEqual(bound.port, listeners[1].getsockname()[1])

    def test_narrowed(self) -> None:
        """Of several with one name, the family, the type or the listener's need tells which."""
        path = free_path(self)
        unix = self.make(socket.AF_UNIX)
        unix.bind(path)
        unix.listen()
        descriptors = [self.listener().fileno(), self.receiver().fileno(), unix.fileno()]
        for text, options, index in (
            ("systemd:name=a:kind=datagram", {}, 1),
            ("systemd:name=a", {"kind": "datagram"}, 1),
            ("systemd:name=a:domain=UNIX", {}, 2),
            ("systemd:name=a:domain=INET", {"kind": "stream"}, 0),
        ):
            inherited = self.pass_on(*descriptors, names="a:a:a")
            bound = self.bind(text, inherited=inherited, **options)
            self.assertEqual(bound.socket.fileno(), self.first + index)
        inherited = self.pass_on(*descriptors, names="a:a:a")
        self.assertTrue(
            self.refused("systemd:name=a", inherited=inherited).startswith(
                "several sockets were passed with name 'a': add domain= or kind=, or use index=; passed are 0 'a' ("
            )
        )

    def test_refused(self) -> None:
        """What is not there, taken, or of another kind is refused, and what there is is listed."""
        listener = self.listener()
        inherited = self.pass_on(listener.fileno(), names="lekt")
        listed = f"; passed are 0 'lekt' (stream 127.0.0.1:{listener.getsockname()[1]})"
        for text, options, reason in (
            ("systemd:name=chatr", {}, "no socket was passed with name 'chatr'"),
            ("systemd:index=1", {}, "no socket was passed with index 1"),
            ("systemd:name=lekt:kind=datagram", {}, "the socket passed with name 'lekt' is not datagram"),
            ("systemd:name=lekt", {"kind": "datagram"}, "the socket passed with name 'lekt' is not datagram"),
            (
                "systemd:index=0:domain=INET6:kind=stream",
                {},
                "the socket passed with index 0 is not INET6 stream",
            ),
        ):
            self.assertEqual(self.refused(text, inherited=inherited, **options), reason + listed)
        bound = self.bind("systemd:name=lekt", inherited=inherited)
        taken = "the socket passed with name 'lekt' is already used by another listener"
        self.assertEqual(self.refused("systemd:name=lekt", inherited=inherited), taken + listed)
        bound.close()
        self.assertEqual(self.refused("systemd:name=lekt", inherited=inherited), taken + listed)

    def test_none(self) -> None:
        """Sockets for another process, or none at all, are none."""
        for environment in (
            {},
            {"LISTEN_FDS": "1"},
            {"LISTEN_FDS": "1", "LISTEN_PID": "78"},
            {"LISTEN_FDS": "1", "LISTEN_PID": "x"},
            {"LISTEN_PID": "77"},
            {"LISTEN_FDS": "0", "LISTEN_PID": "77", "LISTEN_FDNAMES": ""},
        ):
            inherited = InheritedSockets.from_environment(environment, 77)
            self.assertEqual(len(inherited), 0)
            self.assertEqual(
                self.refused("systemd:name=x", inherited=inherited),
                "no sockets were passed to this process "
                "(start it through its systemd socket unit or systemd-socket-activate)",
            )

    def test_wrong_variables(self) -> None:
        """Variables that contradict themselves stop the start instead of shifting names."""
        for count, names, text in (
            ("x", None, "LISTEN_FDS is 'x', not a number"),
            ("-1", None, "LISTEN_FDS is '-1'"),
            ("1025", None, "up to 1024"),
            ("2", "a", "LISTEN_FDNAMES has 1 names for the 2 sockets"),
            ("1", "a:b", "LISTEN_FDNAMES has 2 names for the 1 sockets"),
        ):
            environment = {"LISTEN_PID": "77", "LISTEN_FDS": count}
            if names is not None:
                environment["LISTEN_FDNAMES"] = names
            error = self.assertRaises(BindError, InheritedSockets.from_environment, environment, 77)
            self.assertIn(text, str(error))

    def test_unusable(self) -> None:
        """What cannot be listened on is described, and refused only to who asks for it."""
        file = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, file)
        pair = socket.socketpair()
        for end in pair:
            self.addCleanup(end.close)
        sequence = self.make(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        unbound = self.make(type=socket.SOCK_DGRAM)
        datagrams = self.make(socket.AF_UNIX, socket.SOCK_DGRAM)
        good = self.listener()
        descriptors = [file, pair[0].fileno(), sequence.fileno(), unbound.fileno(), datagrams.fileno()]
        faults = [
            "not a socket",
            "not listening; the socket unit needs Accept=no",
            "neither a stream nor a datagram socket",
            "datagram socket that is not bound to a port",
            "unix datagram sockets are not supported",
        ]
        if hasattr(socket, "AF_NETLINK"):
            descriptors.append(self.make(socket.AF_NETLINK, socket.SOCK_RAW).fileno())
            faults.append("not an internet or unix socket")
        inherited = self.pass_on(good.fileno(), *descriptors, names="good" + ":bad" * len(descriptors))
        for index, fault in enumerate(faults, 1):
            reason = self.refused(f"systemd:index={index}", inherited=inherited)
            self.assertTrue(reason.startswith(f"the socket passed with index {index} cannot be used; passed are 0"))
            self.assertIn(f"{index} 'bad' ({fault})", reason)
            # Its owner still has it: reading has not closed it.
            os.fstat(self.first + index)
        bound = self.bind("systemd:name=good", inherited=inherited)
        self.assertEqual(bound.port, good.getsockname()[1])

    def test_missing_descriptor(self) -> None:
        """A descriptor that is not open is a fault, and a long list of sockets is cut."""
        listener = self.listener()
        inherited = self.pass_on(*[listener.fileno()] * 10)
        inherited.take(parse_endpoint("systemd:index=0")).close()
        again = InheritedSockets.from_environment(self.environment, 77, first=self.first)
        reason = self.refused("systemd:index=0", inherited=again)
        self.assertIn("passed are 0 'unknown' (not an open descriptor), 1 'unknown' (stream", reason)
        self.assertTrue(reason.endswith("7 'unknown' (stream " + bound_text(listener) + "), and 2 more"), reason)

    def test_same_address(self) -> None:
        """An endpoint with exactly the address of a passed socket gets that socket, once."""
        listener, receiver = self.listener(), self.receiver()
        port, datagram_port = listener.getsockname()[1], receiver.getsockname()[1]
        inherited = self.pass_on(listener.fileno(), receiver.fileno())
        bound = self.bind(f"tcp:{port}:interface=localhost", inherited=inherited)
        self.assertEqual((bound.inherited, bound.socket.fileno()), (True, self.first))
        self.assertIn("is already in use", self.refused(f"tcp:{port}:interface=127.0.0.1", inherited=inherited))
        # The same number as a UDP port is another thing, and port 0 is no address.
        tcp = parse_endpoint(f"tcp:{datagram_port}:interface=127.0.0.1")
        self.assertIsNone(inherited.take_address(tcp, [("127.0.0.1", datagram_port)], "stream"))
        self.assertFalse(self.bind("udp:0:interface=127.0.0.1", inherited=inherited).inherited)
        self.assertFalse(self.bind("tcp:0:interface=127.0.0.1", inherited=inherited).inherited)
        bound = self.bind(f"udp:{datagram_port}:interface=127.0.0.1", inherited=inherited)
        self.assertEqual((bound.inherited, bound.kind), (True, "datagram"))

    def test_same_address_everywhere(self) -> None:
        """An endpoint for all interfaces gets the passed socket for all interfaces, of either family."""
        for host in ("0.0.0.0",) if NO_IPV6 else ("0.0.0.0", "::"):
            listener = self.listener(host)
            inherited = self.pass_on(listener.fileno())
            bound = self.bind(f"tcp:{listener.getsockname()[1]}", inherited=inherited)
            self.assertTrue(bound.inherited)
        if not NO_IPV6:
            listener = self.listener("::1")
            inherited = self.pass_on(listener.fileno())
            self.assertTrue(
                self.bind(f"tcp:{listener.getsockname()[1]}:interface=[::1]", inherited=inherited).inherited
            )

    def test_same_path(self) -> None:
        """A unix endpoint likewise; the path of an inherited socket is systemd's, and stays."""
        path = free_path(self)
        listener = self.make(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        inherited = self.pass_on(listener.fileno())
        bound = self.bind(f"unix:{path}", inherited=inherited)
        self.assertEqual((bound.inherited, bound.address), (True, f"unix:{path}"))
        bound.close()
        self.assertTrue(os.path.lexists(path))

    def test_abstract(self) -> None:
        """A unix socket without a path is shown by its name."""
        listener = self.make(socket.AF_UNIX)
        listener.bind(b"\0connectd-%d" % os.getpid())
        listener.listen()
        bound = self.bind("systemd:index=0", inherited=self.pass_on(listener.fileno()))
        self.assertEqual(bound.address, f"unix:@connectd-{os.getpid()}")

    def test_forget(self) -> None:
        """Child processes do not see the variables; what was read stays."""
        listener = self.listener()
        inherited = self.pass_on(listener.fileno(), names="lekt")
        inherited.forget()
        inherited.forget()
        self.assertEqual(self.environment, {"HOME": "/"})
        self.bind("systemd:name=lekt", inherited=inherited)

    def test_of_process(self) -> None:
        """The process's own sockets are read once, and remembered when the variables are gone."""
        self.patch(InheritedSockets, "_process", [])
        self.assertEqual(len(InheritedSockets.of_process({})), 0)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        inherited = InheritedSockets.of_process(environment)
        self.assertEqual(len(inherited), 1)
        inherited.forget()
        self.assertIs(InheritedSockets.of_process(environment), inherited)
        self.assertEqual(environment, {})

    def test_real_process(self) -> None:
        """A program started with sockets at descriptor 3 and up takes them, and still has them after a fork."""
        listener = self.listener()
        script = """if True:
            import os, sys
            os.dup2(int(sys.argv[1]), 3)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="lekt")
            from connectd.net.endpoint import parse_endpoint
            from connectd.net.inherited import InheritedSockets
            from connectd.net.sockets import bind
            bound = bind(parse_endpoint("systemd:name=lekt"))
            InheritedSockets.of_process().forget()
            if os.fork():
                os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
            assert "LISTEN_FDS" not in os.environ
            assert len(InheritedSockets.of_process()) == 1
            print(bound.socket.fileno(), bound.address)
        """
        copy = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 50)
        self.addCleanup(os.close, copy)
        done = subprocess.run(
            [sys.executable, "-c", script, str(copy)],
            pass_fds=[copy],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((done.stdout, done.stderr), (f"3 {bound_text(listener)}\n", ""))


def bound_text(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


class AcknowledgedTests(unittest.SynchronousTestCase):
    def connected(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        return client, server

    def acknowledged(self, connection: socket.socket) -> int:
        number = bytes_acknowledged(connection)
        assert number is not None
        return number

    def test_progress(self) -> None:
        """COM-6: the number follows what the peer has taken, and stands still while it takes nothing."""
        if not sys.platform.startswith("linux"):
            raise unittest.SkipTest("needs Linux's TCP_INFO")
        client, server = self.connected()
        start = self.acknowledged(server)
        self.assertLessEqual(start, 1)
        server.sendall(b"x" * 1000)
        wait_until(lambda: self.acknowledged(server) == start + 1000)
        self.assertEqual(len(client.recv(2000)), 1000)
        server.setblocking(False)
        sent = 1000
        try:
            while True:
                sent += server.send(b"y" * 65536)
        except BlockingIOError:
            pass
        # The kernels' buffers are full: not all of it can have been taken.
        before = self.acknowledged(server)
        self.assertLess(before, start + sent)
        client.settimeout(20)
        left = sent - 1000
        while left:
            left -= len(client.recv(65536))
        wait_until(lambda: self.acknowledged(server) == start + sent)
        self.assertGreater(self.acknowledged(server), before)

    def test_cannot_tell(self) -> None:
        """COM-6: no number is made up for other sockets, platforms and kernels."""
        client, _ = self.connected()
        pair = socket.socketpair()
        for end in pair:
            self.addCleanup(end.close)
        self.assertIsNone(bytes_acknowledged(pair[0]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            self.assertIsNone(bytes_acknowledged(datagrams))
        self.assertIsNone(bytes_acknowledged(datagrams))
        self.assertIsNone(bytes_acknowledged(None))

        class OldKernel:
            def getsockopt(self, level: int, option: int, length: int) -> bytes:
                return bytes(104)

        self.assertIsNone(bytes_acknowledged(OldKernel()))
        self.patch(sys, "platform", "freebsd14")
        self.assertIsNone(bytes_acknowledged(client))
