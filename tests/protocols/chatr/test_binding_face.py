"""The server's UDP port over real sockets, and read by Debian's ``turnutils_stunclient`` (CH-32)."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from connectd.net.listener import bind_place
from connectd.protocols.chatr.binding_face import BindingFace
from connectd.protocols.chatr.stun import decode
from tests.protocols.chatr.test_stun import message


class BindingFaceTests(TestCase):
    def face(self, place: str, **limits: Any) -> BindingFace:
        face = BindingFace(reactor, bind_place(place, "datagram"), **limits)
        self.addCleanup(face.stop)
        face.start()
        return face

    def ask(self, host: str, port: int, *datagrams: bytes) -> tuple[list[bytes], tuple[str, int]]:
        """In a thread: send them; the answers to the first and the last, and from where they were sent."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as peer:
            peer.bind((host, 0))
            peer.settimeout(30)
            for data in datagrams:
                peer.sendto(data, (host, port))
            return [peer.recv(2000) for _ in range(2)], peer.getsockname()[:2]

    def test_answers(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.answers())

    async def answers(self) -> None:
        """Each family is told its own address; what is in between is not answered, and everything is counted."""
        for place, host in (
            ("udp:0:interface=127.0.0.1", "127.0.0.1"),
            ("udp:0:interface=[::1]", "::1"),
            ("udp:0", "127.0.0.1"),
        ):
            face = self.face(place)
            port = face.socket.port
            assert port is not None
            answers, address = await deferToThread(self.ask, host, port, message(), b"junk", message()[:-1], message())
            self.assertEqual([decode(answer).mapped for answer in answers], [address] * 2)
            self.assertEqual((face.answered, face.dropped), (2, 2))
            await face.stop()
            await face.stop()
            self.assertFalse(face.running)

    def test_limits(self) -> None:
        """The rates are those that it was given."""
        face = self.face("udp:0:interface=127.0.0.1", burst=1)
        now = cast("IReactorTime", reactor).seconds()
        for _ in range(3):
            face.machine.receive_datagram(message(), ("127.0.0.1", 9), now)
        self.assertEqual((face.answered, face.dropped), (1, 2))

    def test_turnutils(self) -> Deferred[None]:
        """Debian's client reads its address from it."""
        if shutil.which("turnutils_stunclient") is None:
            raise SkipTest("turnutils_stunclient is not installed (Debian: apt-get install coturn)")
        return Deferred.fromCoroutine(self.turnutils())

    async def turnutils(self) -> None:
        face = self.face("udp:0:interface=127.0.0.1")
        output, errors, status = await getProcessOutputAndValue(
            "turnutils_stunclient", ["-p", str(face.socket.port), "127.0.0.1"], env=os.environ
        )
        text = (output + errors).decode()
        self.assertEqual(status, 0, text)
        self.assertRegex(text, r"UDP reflexive addr: 127\.0\.0\.1:\d+")
        self.assertGreaterEqual(face.answered, 1)
