"""Accepted players' frames on their way to a backend and back."""

from __future__ import annotations

import os

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from connectd.ops.daemon import Daemon
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.plugin import plugin
from connectd.protocols.starbound.settings import StarboundSettings
from tests.accounts import reactor


class Reflecting(Protocol):
    """A backend that sends back what comes behind the PROXY header."""

    def __init__(self) -> None:
        self.head = b""
        self.open = False

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if not self.open:
            self.head += data
            if len(self.head) < 16 or len(self.head) < 16 + int.from_bytes(self.head[14:16], "big"):
                return
            self.open = True
            data = self.head[16 + int.from_bytes(self.head[14:16], "big") :]
        self.transport.write(data)


class ForwardTests(TestCase):
    timeout = 60

    async def test_frames(self) -> None:
        """SB-21, SB-22: what a backend gets is plain frames, whatever the player's stream is compressed with; what it
        sends reaches the player the same way. Megabytes of it, too."""
        factory = Factory.forProtocol(Reflecting)
        backend = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(backend.stopListening)
        handler = f"forward:tcp:127.0.0.1:{backend.getHost().port}"
        daemon = Daemon.from_settings(
            [
                StarboundSettings(
                    listen="tcp:0:interface=127.0.0.1", generation=generation, anonymous=True, handler=handler
                )
                for generation in ("seed", "1.4", "opensb")
            ]
        )
        daemon.startService()
        self.addCleanup(daemon.stopService)
        frames = [Frame(30, b"hello"), Frame(31, bytes(200_000), compressed=True)]
        frames += [Frame(32, os.urandom(20_000)) for _ in range(200)]
        for listener in daemon.listeners:
            (generation,) = listener.settings.generations  # type: ignore[attr-defined]
            url = f"starbound://127.0.0.1:{listener.faces[0].port}?generation={generation}"
            session = await plugin.connect(url, reactor)
            for frame in frames:
                session.send(frame)
                back = await session.__anext__()
                self.assertEqual((back.id, back.payload), (frame.id, frame.payload))
            await session.leave()
