"""FmLTP's reader of PEM and DER: bytes that are no keys, keys with something wrong about them, in any segmentation."""

from __future__ import annotations

from connectd.protocols.fmltp.der import DerError, DerReader, encode_unsigned
from connectd.protocols.fmltp.groups import (
    FFDHE2048,
    PARAMETER_LABELS,
    BadKey,
    decode_parameters,
    encode_parameters,
    parse_parameters,
)
from connectd.protocols.fmltp.keys import KEY_LABELS, encode_public_key, parse_public_key
from connectd.protocols.fmltp.pem import MAXIMUM_PEM, PemError, PemReader, encode_pem
from fuzz.script import Script, cut
from fuzz.watched import require

P = FFDHE2048.p
KEY_PEM = encode_public_key(FFDHE2048, 5 << 1000)
KEY_DER = (PemReader(KEY_LABELS).read(KEY_PEM) or (b"", 0))[0]
PARAMETERS_PEM = encode_parameters(FFDHE2048)
PARAMETERS_DER = (PemReader(PARAMETER_LABELS).read(PARAMETERS_PEM) or (b"", 0))[0]

Result = tuple[bytes, bytes, int] | tuple[str, int] | None


def _read(pieces: list[bytes]) -> Result:
    """A block's label, contents and end; or what was wrong; or nothing yet."""
    reader = PemReader(KEY_LABELS | PARAMETER_LABELS)
    data = bytearray()
    for piece in pieces:
        data += piece
        try:
            found = reader.read(data)
        except PemError as error:
            require(
                0 <= error.offset <= min(len(data), MAXIMUM_PEM), "COM-3: the offset lies in what came", error.offset
            )
            require(str(error).isprintable(), "the reason is one line of plain text", error)
            return str(error), error.offset
        if found is not None:
            require(found[1] <= MAXIMUM_PEM, "FM-6: at most 4 KiB", found[1])
            return reader.label, *found
    require(len(data) < MAXIMUM_PEM, "FM-6: no more than 4 KiB is waited for", len(data))
    return None


def _pem(script: Script) -> None:
    """Any bytes in and around a block: the same answer however they are cut."""
    beginning = (b"", b"text\r\n", b"-----BEGIN PUBLIC KEY-----\n", b"x" * 4000 + b"\n", KEY_PEM[:200])
    prefix = beginning[script.byte() % len(beginning)]
    ending = (b"", KEY_PEM, KEY_PEM.replace(b"\n", b"\r\n"), b"\n-----END PUBLIC KEY-----\n", bytes(5000))
    suffix = ending[script.byte() % len(ending)]
    sizes = script.take(2)
    data = prefix + script.rest() + suffix
    whole = _read([data])
    require(whole == _read(cut(data, sizes)), "segmentation changes nothing", whole)
    require(whole == _read(cut(data, b"\0")), "segmentation changes nothing", whole)


def _der(script: Script) -> None:
    """A key or parameters with bytes changed: what is taken is what was meant."""
    is_key = script.byte() % 2
    good = KEY_DER if is_key else PARAMETERS_DER
    bad = bytearray(good)
    for _ in range(script.byte() % 4):
        place = script.byte() | script.byte() << 8
        # The structure is in the first bytes and around the numbers' ends: half of the changes go there.
        place = place % 64 if place & 1 else place % len(bad)
        bad[place] ^= script.byte()
    end = script.byte() | script.byte() << 8
    data = bytes(bad[: end % len(bad)] if end & 0x8000 else bad) + (script.chunk() if end & 0x4000 else b"")
    try:
        if is_key:
            y = parse_public_key(data, FFDHE2048)
            require(2 <= y <= P - 2, "FM-6: y lies in 2 … p-2")
            require(encode_unsigned(P) in data and encode_unsigned(y) in data, "FM-6: the key is of our group")
        else:
            group = parse_parameters(b"DH PARAMETERS", data, minimum_bits=2048)
            require(2048 <= group.bits <= 4096 and 2 <= group.g <= group.p - 2, "FM-5: the sizes hold", group)
            require(decode_parameters(encode_parameters(group)) == group, "what we write we read")
    except BadKey as error:
        require(data != good, "what is right is taken", error)
        require(str(error).isprintable(), "the reason is one line of plain text", error)


def _elements(script: Script) -> None:
    """Any bytes as DER."""
    data = script.rest()
    readers = [DerReader(data)]
    try:
        for _ in range(64):
            reader = readers[-1]
            if not reader.more:
                readers.pop()
                if not readers:
                    return
            elif reader.next_is_integer:
                value = reader.unsigned(256, "it")
                require(value.bit_length() <= 256 and encode_unsigned(value) in data, "a number has one form", value)
            else:
                readers.append(reader.sequence())
    except DerError as error:
        require(0 <= error.offset <= len(data), "COM-3: the offset lies in what came", error.offset, len(data))


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    (_pem, _der, _elements)[script.byte() % 3](script)


SEEDS = (
    b"\0\0\1\7\1",
    b"\0\1\2\0\3" + b"Hello\r\n",
    b"\0\2\3\x20\1" + encode_pem(b"PUBLIC KEY", b"abc")[27:31],
    b"\0\3\1\xff\xff",
    b"\0\4\0\5\5" + KEY_PEM[200:],
    b"\1\1\0\0\0",
    b"\1\1\1\1\0\1\0\0",
    b"\1\0\2\3\0\x7f\5\1\x80\0\0",
    b"\1\0\0\0\x40\3abc",
    b"\2" + bytes.fromhex("300c020105020200800202010030020200"),
)
