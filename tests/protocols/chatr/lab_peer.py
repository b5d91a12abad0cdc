"""One peer as a process of its own: punches, exchanges a message, and says what came of it, one JSON object a line.

Arguments: own UUID, the peer's UUID, role, the peer's public address, its private address, our port, seconds.
It writes ``"ready"``, begins with the first line of its standard input, and ends with that.
"""

from __future__ import annotations

import json
import sys
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, react
from twisted.protocols.basic import LineReceiver

from connectd.protocols.chatr.candidates import candidates
from connectd.protocols.chatr.checks import Role
from connectd.protocols.chatr.peer_socket import PeerPath, PeerSocket, PunchingFailed

AGREED_PORT = 1231


class Input(LineReceiver):
    """Standard input."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.began: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        self.began.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def main(clock: Any, *arguments: str) -> None:
    own, peer = UUID(arguments[0]), UUID(arguments[1])
    public, private = ip_address(arguments[3]), ip_address(arguments[4])
    socket = PeerSocket.bind(reactor, own, port=int(arguments[5]))
    standard = Input()
    StandardIO(standard)
    socket.start()
    say(ready=True)
    await standard.began
    try:
        offered = candidates(public, private, AGREED_PORT)
        path = await socket.punch(peer, Role(arguments[2]), offered, timeout=float(arguments[6]))
    except PunchingFailed as error:
        say(failed=error.reason)
    else:
        await talk(clock, path)
    await standard.ended
    await socket.stop()


async def talk(clock: Any, path: PeerPath) -> None:
    """Say hello until the other side's hello is here; it gets some more, since ours may be lost."""
    say(opened=path.address, kind=path.candidate.kind.value)
    came: Deferred[bytes] = Deferred()

    def received(data: bytes) -> None:
        if not came.called:
            came.callback(data)

    path.on_message = received
    saying = LoopingCall(lambda: path.send(b"hello") if path.is_open else saying.stop())
    saying.clock = clock
    saying.start(0.1).addErrback(lambda failure: say(error=str(failure)))
    say(received=(await came).decode())


if __name__ == "__main__":
    react(lambda clock: Deferred.fromCoroutine(main(clock, *sys.argv[1:])))
