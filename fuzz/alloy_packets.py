"""Alloy's packets: any payload of any id is a packet that says the same again, or malformed at an offset."""

from __future__ import annotations

from uuid import UUID

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.compression import compress
from connectd.protocols.alloy.fields import Asset, HostAddress, Instant, Malformed
from connectd.protocols.alloy.packets import PACKETS, decode
from fuzz.script import Script
from fuzz.watched import require

IDENTIFIERS = sorted(PACKETS)
PROFILES = ("hytale/1", "hytale/2")
MOST_DECOMPRESSED = 100_000


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs: which packet, in which form, whether we compress it, and its payload."""
    script = Script(data)
    identifier, choice, payload = IDENTIFIERS[script.byte() % len(IDENTIFIERS)], script.byte(), script.rest()
    profile = PROFILES[choice % 2]
    if PACKETS[identifier].layout.compressed and choice & 2:
        payload = compress(payload)
    try:
        packet = decode(identifier, payload, profile, MOST_DECOMPRESSED)
    except Malformed as error:
        require(0 <= error.offset <= max(len(payload), MOST_DECOMPRESSED), "COM-3: the offset lies in it", error)
        require(error.reason.isprintable(), "the reason is one line of plain text", error.reason)
        return
    frame = packet.encode()
    require(int.from_bytes(frame[:4], "little") == len(frame) - 8, "the length is the payload's")
    require(int.from_bytes(frame[4:8], "little") == identifier, "the id is the packet's")
    require(len(frame) - 8 <= packet.layout.largest_payload, "AL-17: it is within its maximum", len(frame))
    require(decode(identifier, frame[8:], profile) == packet, "it says the same again", packet)


_PLAYER = UUID(int=0x00112233445566778899AABBCCDDEEFF)
_ASSET = Asset("a1" * 32, "dir/name")
_EXAMPLES: tuple[alloy.Packet, ...] = (
    alloy.Connect(uuid=_PLAYER, username="ann", language="en", referral_source=HostAddress("h", 1)),
    alloy.Connect2(uuid=_PLAYER, username="ann", language="en", identity_token="jwt"),
    alloy.Disconnect(0, "bye"),
    alloy.Ping(1, Instant(1, 2)),
    alloy.Pong(1),
    alloy.AuthGrant("g", "t"),
    alloy.AuthToken("a", None),
    alloy.ServerAuthToken(None, b"x"),
    alloy.ConnectAccept(bytes(32)),
    alloy.PasswordRejected(1, bytes(32)),
    alloy.ClientReferral(HostAddress("h", 1), b"x"),
    alloy.WorldSettings(320, (_ASSET,)),
    alloy.RequestAssets((_ASSET, _ASSET)),
    alloy.AssetInitialize(5, _ASSET),
    alloy.AssetPart(b"hello"),
    alloy.JoinWorld(1, 1, _PLAYER),
)

SEEDS = tuple(
    bytes((IDENTIFIERS.index(packet.layout.id), isinstance(packet, alloy.Connect2))) + packet.encode()[8:]
    for packet in _EXAMPLES
)
