"""STUN as Chatr reads and writes it, and the server's port that answers it (CH-32)."""

from __future__ import annotations

import ipaddress
import zlib

from connectd.protocols.chatr.binding import BURST, BindingMachine
from connectd.protocols.chatr.stun import (
    COOKIE,
    HEADER_SIZE,
    BindingMessage,
    MessageClass,
    StunError,
    decode,
    encode_request,
    encode_success,
)
from fuzz.script import Script
from fuzz.watched import require

PEERS = (("192.0.2.1", 4000), ("2001:db8::1", 4000), ("::ffff:192.0.2.2", 1))
KEY = b"5ec7e7"


def _decode(data: bytes) -> BindingMessage | None:
    try:
        return decode(data)
    except StunError as error:
        require(0 <= error.offset <= len(data), "COM-3: the offset lies in what came", error.offset, len(data))
        require(str(error).isprintable(), "the reason is one line of plain text", str(error))
        return None


def _anything(script: Script) -> None:
    """Any bytes, as they are or behind a header that fits them; and what the server's port makes of them."""
    if script.byte() & 1:
        body = script.rest()
        body = body[: len(body) & ~3]
        header = b"\0\1" + len(body).to_bytes(2, "big") + COOKIE.to_bytes(4, "big") + b"transaction!"
        data = header + body
    else:
        data = script.rest()
    read = _decode(data)
    if read is not None:
        require(len(data) % 4 == 0 and len(data) >= HEADER_SIZE, "a message has a whole length", len(data))
        require(read.transaction_id == data[8:20], "the transaction id is where it is", read)
        require(len(read.username or b"") < 509, "a username is short", read)
        read.is_signed_with(KEY)
        if read.has_fingerprint:
            fingerprint = int.from_bytes(data[-4:], "big") ^ 0x5354554E
            require(fingerprint == zlib.crc32(data[:-8]), "FINGERPRINT is the last attribute and right", read)
        if read.mapped is not None:
            ipaddress.ip_address(read.mapped[0])
    for keyed in (False, True):
        _ask(data, read, keyed=keyed)


def _ask(data: bytes, read: BindingMessage | None, *, keyed: bool) -> None:
    """CH-32, with and without keys."""
    machine = BindingMachine(find_key=lambda username: KEY) if keyed else BindingMachine()
    for peer in PEERS:
        for _ in range(BURST + 2):
            require(machine.receive_datagram(data, peer, 1.0) == [], "the port tells nobody anything")
        answers = machine.datagrams_to_send()
        if read is None or read.message_class is not MessageClass.REQUEST or read.unknown:
            require(not answers, "CH-32: only requests that are understood are answered", read)
            continue
        signed = read.has_integrity
        expected = BURST if not signed else len(answers) if keyed and read.is_signed_with(KEY) else 0
        require(len(answers) == expected, "CH-32: 20 at once, and what is signed only where that is right", read)
        for answer, address in answers:
            require(address == peer, "an answer goes where the request came from", address)
            require(
                signed or len(answer) == (44 if peer[0].startswith("2001") else 32), "CH-32: 32 or 44 bytes", answer
            )
            require(signed or len(answer) <= 2.2 * len(data), "CH-32: at most 2.2 times the request", answer)
            back = decode(answer)
            require(back.transaction_id == read.transaction_id, "an answer repeats the transaction id", back)


def _round_trip(script: Script) -> None:
    """What we write ourselves is read as it was meant; one changed bit is noticed."""
    code = script.byte()
    transaction_id = script.take(12).ljust(12, b"\0")
    key = script.chunk() if code & 1 else None
    if code & 2:
        username = script.chunk()
        data = encode_request(transaction_id, username, use_candidate=bool(code & 4), key=key)
        read = decode(data)
        require((read.username, read.use_candidate) == (username, bool(code & 4)), "we read what we write", read)
    else:
        size = 16 if code & 4 else 4
        host = str(ipaddress.ip_address(script.take(size).ljust(size, b"\1")))
        data = encode_success(transaction_id, (host, code << 8), key=key, fingerprint=True)
        read = decode(data)
        require(read.mapped is not None and read.mapped[1] == code << 8, "we read what we write", read)
    require(read.transaction_id == transaction_id and read.has_fingerprint, "we read what we write", read)
    require(key is None or read.is_signed_with(key), "we read what we sign", read)
    bit = int.from_bytes(script.take(2), "big") % (8 * len(data))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    again = _decode(bytes(damaged))
    require(again is None or not again.has_fingerprint, "FINGERPRINT notices a changed bit", again)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 4:
        _anything(script)
    else:
        _round_trip(script)


_REQUEST = encode_request(b"transaction!", b"a" * 32 + b":" + b"b" * 32, use_candidate=True, key=KEY)

SEEDS = (
    b"\1\0" + _REQUEST,
    b"\1\1" + _REQUEST[HEADER_SIZE:],
    b"\1\0" + encode_request(b"transaction!", b"name"),
    b"\1\0" + encode_success(b"transaction!", ("192.0.2.1", 9), key=KEY, fingerprint=True),
    b"\1\0" + encode_success(b"transaction!", ("2001:db8::1", 9)),
    b"\1\1",
    b"\1\1\0\3\0\4\0\0\0\0\x80\x22\0\4abcd",
    b"\0\7transaction!\3key\5hello\0\5",
    b"\0\4transaction!" + bytes(16) + b"\1\5",
)
