"""The PROXY header's parser: bytes that are no header, headers that are, in any segmentation."""

from __future__ import annotations

import ipaddress
import struct

from connectd.net.proxy import MAX_V2_LENGTH, ProxyHeader, ProxyHeaderError, ProxyHeaderParser, encode_v2
from fuzz.script import Script, cut
from fuzz.watched import require

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MOST_HELD = 16 + MAX_V2_LENGTH

Result = tuple[ProxyHeader | None, bytes, tuple[str, int] | None]


def _parse(pieces: list[bytes]) -> Result:
    """The header, what followed it, and what was wrong."""
    parser = ProxyHeaderParser()
    header = None
    rest = b""
    fed = 0
    for index, piece in enumerate(pieces):
        if header is not None:
            rest += piece
            continue
        fed += len(piece)
        try:
            header = parser.feed(piece)
        except ProxyHeaderError as error:
            require(0 <= error.offset < fed, "COM-3: the offset lies in what came", error.offset, fed)
            require(error.reason.isprintable(), "the reason is one line of plain text", error.reason)
            require(parser.buffered == 0 and parser.remainder == b"", "nothing is kept after an error")
            _require_the_same_again(parser, error)
            return None, b"", (error.reason, error.offset)
        require(parser.buffered <= MOST_HELD, "COM-2: what is held is bounded", parser.buffered)
        if header is not None:
            rest = parser.remainder
            require(parser.buffered == 0, "nothing is held any more", index)
    return header, rest, None


def _require_the_same_again(parser: ProxyHeaderParser, error: ProxyHeaderError) -> None:
    try:
        parser.feed(b"more")
    except ProxyHeaderError as again:
        require((again.reason, again.offset) == (error.reason, error.offset), "an error stays", again, error)
    else:
        raise AssertionError("an error stays")


def _anything(script: Script) -> None:
    """Any bytes: an answer, and the same one however they are cut."""
    beginning = (b"", SIGNATURE, SIGNATURE + b"\x21\x11", SIGNATURE + b"\x21\x21", SIGNATURE + b"\x20\0", b"PROXY ")
    prefix = beginning[script.byte() % len(beginning)]
    sizes = script.take(2)
    data = prefix + script.rest()
    whole = _parse([data])
    require(whole == _parse(cut(data, sizes)), "segmentation changes nothing", whole)
    require(whole == _parse(cut(data, b"\0")), "segmentation changes nothing", whole)
    header, rest, _ = whole
    if header is not None:
        require(data.endswith(rest), "what follows the header is passed on", rest)
        for end in (header.source, header.destination):
            if end is not None:
                address = ipaddress.ip_address(end[0])
                require(str(address) == end[0], "an address is in its canonical spelling", end)
                require(getattr(address, "ipv4_mapped", None) is None, "an IPv4 address is one", end)
                require(0 <= end[1] <= 65535, "a port is one", end)


def _round_trip(script: Script) -> None:
    """What we write ourselves is read as it was meant."""
    code = script.byte()
    size = 16 if code & 1 else 4
    ends = [(str(ipaddress.ip_address(script.take(size).ljust(size, b"\0"))), script.byte() << 8) for _ in range(2)]
    tlvs = [(0xE0 + script.byte() % 16, script.chunk()) for _ in range(code >> 1 & 3)]
    header = encode_v2(ends[0], ends[1], tlvs, with_checksum=bool(code & 8))
    payload = script.rest()
    found, rest, error = _parse(cut(header + payload, bytes((code,))))
    require(error is None and found is not None, "we read what we write", error)
    assert found is not None
    require(rest == payload, "what follows the header is passed on", rest)
    require(list(found.tlvs[: len(tlvs)]) == tlvs, "TLVs are passed on", found.tlvs)
    for told, meant in zip((found.source, found.destination), ends, strict=True):
        assert told is not None
        require(_plain(told[0]) == _plain(meant[0]) and told[1] == meant[1], "addresses are passed on", told, meant)


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 4:
        _anything(script)
    else:
        _round_trip(script)


_V4 = SIGNATURE + b"\x21\x11\0\x0c" + bytes((192, 0, 2, 1, 192, 0, 2, 2)) + struct.pack(">HH", 40000, 7890)

SEEDS = (
    b"\1\0\0\3PROXY TCP4 192.0.2.1 192.0.2.2 40000 7890\r\nmore",
    b"\1\0\1\2PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 0 65535\r\n",
    b"\1\0\1\2PROXY UNKNOWN whatever\r\n",
    b"\1\0\7\7" + _V4 + b"more",
    b"\1\0\2\1" + encode_v2(("2001:db8::1", 1), ("2001:db8::2", 2), [(0xE0, b"7"), (4, bytes(9))], with_checksum=True),
    b"\1\4\0\0\0\7\3\0\4" + bytes(4),
    b"\0\x0f" + bytes(range(40)) + b"\1\5hello\2\3abc",
)
