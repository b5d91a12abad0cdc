"""What Starbound's two sides say, for the targets that say it to their machines."""

from __future__ import annotations

import sys
from functools import cache

from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.generations import GENERATIONS, Generation
from connectd.protocols.starbound.packets import (
    ClientConnect,
    ClientDisconnectRequest,
    ConnectFailure,
    ConnectionResponse,
    ConnectSuccess,
    HandshakeChallenge,
    HandshakeResponse,
    ProtocolRequest,
    ProtocolResponse,
    ProtocolVersion,
    ServerDisconnect,
)
from connectd.protocols.starbound.variant import EncodedVariant

if sys.version_info >= (3, 14):
    from compression.zstd import compress as compress
else:
    from backports.zstd import compress as compress

UUID = bytes(range(16))
INFO = EncodedVariant.of({"compression": "Zstd", "openProtocolVersion": 15})
FRAME_LIMIT = 50_000
MOST_HELD = (32 << 20) + (4 << 20)
"""SB-8, SB-21: the largest window, and a frame or a ClientConnect of the size that is allowed here."""

NAMES = tuple(sorted(GENERATIONS))
_CLIENT = (
    ProtocolRequest(747),
    ClientConnect(name="Bob", uuid=UUID, account="ann", shipworld=b"SBBF01" * 9, world_chunks=((b"k", b"v" * 30),)),
    ClientConnect(uuid=UUID, world_chunks=((b"", None), (b"x" * 40, b""))),
    HandshakeResponse(b"h" * 32),
    ClientDisconnectRequest(),
)
_SERVER = (
    ProtocolVersion(628),
    ProtocolVersion(636),
    ProtocolVersion(639),
    ProtocolResponse(True),
    ProtocolResponse(True, INFO),
    HandshakeChallenge(b"s" * 16, rounds=100),
    HandshakeChallenge(b"s", rounds=99),
    ConnectionResponse(True, 7),
    ConnectionResponse(False, 0, "no"),
    ConnectSuccess(300, UUID),
    ConnectFailure("no"),
    ServerDisconnect("bye"),
)
_FRAMES = (Frame(20, b"hello"), Frame(21, bytes(40_000), True), Frame(22, bytes(60_000), True), Frame(23, b""))


@cache
def words(generation: Generation, from_client: bool) -> tuple[bytes, ...]:
    """All that one side can say in a generation, plain and compressed."""
    result = []
    for packet in _CLIENT if from_client else _SERVER:
        if type(packet) in generation.layouts:
            result += [generation.encode(packet, compressed=compressed) for compressed in (False, True)]
    return (*result, *(frame.encode() for frame in _FRAMES))
