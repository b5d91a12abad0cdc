"""FmLTP's channel: good tokens and bad bytes, joined and cut in any way (FM-10, FM-15)."""

from __future__ import annotations

from connectd.protocols.fmltp.channel import Channel, ChannelError
from connectd.protocols.fmltp.exchange import derive_key
from connectd.protocols.fmltp.fernet import FernetKey
from fuzz.script import Script, chunk, cut
from fuzz.watched import require

SECRET = bytes(range(200))
NOW = 1_700_000_000
KEY = FernetKey(derive_key(SECRET))
ENDS = (b"", b"\r\n", b"\n", b"\r", b"\r\n\r\n")
MAXIMUM = 2000

Result = tuple[list[bytes], tuple[str, int] | None]


def _sealed(number: int, text: bytes, stamp: int) -> bytes:
    """A token of the peer's; the IV is the number, so that no two are the same."""
    return KEY.encrypt(text, stamp, number.to_bytes(16, "big"))


def _open(pieces: list[bytes]) -> Result:
    """What is in the tokens of a stream, and what was wrong, at which offset."""
    channel = Channel(SECRET, random=bytes, maximum=MAXIMUM)
    data = bytearray()
    texts: list[bytes] = []
    consumed = 0
    for piece in pieces:
        data += piece
        while True:
            skipped = channel.skip(data)
            del data[:skipped]
            consumed += skipped
            try:
                found = channel.open(data, NOW)
            except ChannelError as error:
                require(0 <= error.offset <= len(data), "COM-3: the offset lies in what came", error.offset)
                require(str(error).isprintable(), "the reason is one line of plain text", error)
                return texts, (str(error), consumed + error.offset)
            if found is None:
                break
            texts.append(found[0])
            consumed += found[1]
            del data[: found[1]]
        require(len(data) <= MAXIMUM, "COM-2: what is held is bounded", len(data))
    return texts, None


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    sizes = script.take(2)
    stream, honest = b"", True
    expected: list[bytes] = []
    tokens: list[bytes] = []
    newest = NOW
    while script.left:
        end = ENDS[script.byte() % len(ENDS)]
        match script.byte() % 8:
            case 0 | 1 | 2 | 3:
                text = b"x" * script.byte() + script.chunk()
                token = _sealed(len(tokens), text, newest)
                stream += token + end
                tokens.append(token)
                if honest:
                    expected.append(text)
            case 4 if tokens:
                stream += tokens[script.byte() % len(tokens)] + end
                honest = False
            case 5:
                stream += script.chunk() + end
                honest = False
            case 6 if stream:
                place = script.byte() % len(stream)
                stream = (
                    stream[: -1 - place]
                    + bytes((stream[-1 - place] ^ (script.byte() or 1),))
                    + stream[len(stream) - place :]
                )
                honest, expected = False, []
            case 7:
                stamp = script.byte() - 128
                if stamp < -60:
                    honest = False
                token = _sealed(len(tokens), b"", newest + stamp)
                stream += token + end
                tokens.append(token)
                if honest:
                    expected.append(b"")
                    newest = max(newest, newest + stamp)
    whole = _open([stream])
    require(whole == _open(cut(stream, sizes)), "FM-10: segmentation changes nothing", whole)
    require(whole == _open(cut(stream, b"\x3f")), "FM-10: segmentation changes nothing", whole)
    require(whole[0][: len(expected)] == expected, "FM-10: what was sealed is opened", whole, expected)
    if honest:
        require(whole == (expected, None), "FM-10: and nothing else", whole, expected)


SEEDS = (
    b"\7\x7f\0\0\x2f\0\0\0\x2f\0\0\0\5\0",
    b"\0\0\1\0\1\0\1\0\1\0" + b"\2\1\x60\0",
    b"\3\5\0\0\x10\0\0\4\0",
    b"\x20\1\0\0\x2f\0\0\0\x2f\0\0\5" + chunk(b"gAAA!"),
    b"\0\1\1\0\x2f\0\1\7\x44\1\7\x43",
    b"\1\1\0\0\x3f\0\1\6\x10\1",
    b"\x40\x40\1\0\xff\0\0\0\xff\xff" + bytes(255),
    b"\0\0\0\5" + chunk(b"gAAAAAAA===="),
)
