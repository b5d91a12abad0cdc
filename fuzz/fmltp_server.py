"""FmLTP's server machine: a client that says anything, or all the right things in any order, cut up in any way."""

from __future__ import annotations

from connectd.protocols.fmltp.exchange import KeyExchange, derive_key
from connectd.protocols.fmltp.fernet import FernetKey
from connectd.protocols.fmltp.groups import FFDHE2048, encode_parameters
from connectd.protocols.fmltp.keys import encode_public_key
from connectd.protocols.fmltp.machine import (
    AuthenticationRequested,
    CommandReceived,
    KeyExchangeRequested,
    ServerMachine,
)
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.settings import FmltpSettings
from connectd.protocols.fmltp.side import EARLY_TOKEN
from connectd.sansio import Established, Event, Outcome
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

P, G = FFDHE2048.p, FFDHE2048.g
X, Y = 0x1234567, 0x7654321
PUBLIC, SERVER_PUBLIC = pow(G, X, P), pow(G, Y, P)
SECRET = pow(PUBLIC, Y, P).to_bytes(FFDHE2048.size, "big")
EXCHANGE = KeyExchange(SERVER_PUBLIC, SECRET)
KEY = FernetKey(derive_key(SECRET))
NOW = 1_700_000_000

SETTINGS = (FmltpSettings(), FmltpSettings(accounts=False, idle_timeout=30.0))
LINE = b"FlexMusic connectd,0.0.0\r\n"
VERSION = b"FlexMusic,0.0.1\r\n"
KEX_ID = encode_public_key(FFDHE2048, PUBLIC)
BAD_KEYS = tuple(encode_public_key(FFDHE2048, y) for y in (0, 1, P - 1, P))
TEXTS = (
    LINE, b"AUTH ann right", b"AUTH ann wrong", b"HELP", b"QUIT", b"PLAY a song", b"\xff", b"AUTH", b"x" * 47,
    b"y" * 300, b"",
)  # fmt: skip
MOST_INPUT = 65_536 + 255 * 256
"""What is held, and one read beyond it."""


class _Server:
    """A server, and its client's end of the channel."""

    def __init__(self, settings: FmltpSettings) -> None:
        self.machine = ServerMachine(settings, FFDHE2048, now=NOW, random=bytes)
        self.watched = Watched(self.machine, MOST_INPUT)
        self.tokens = 0
        self.proved = not settings.accounts

    def token(self, text: bytes) -> bytes:
        """A token of the client's."""
        self.tokens += 1
        return KEY.encrypt(text, NOW, self.tokens.to_bytes(16, "big"))

    def note(self, events: list[Event]) -> None:
        """FM-11: who has not proved anything is not let in, and gets nothing but HELP."""
        for event in events:
            require(not isinstance(event, Established) or self.proved, "FM-11: AUTH comes first", event)
            if isinstance(event, CommandReceived):
                require(self.proved or event.name == "HELP", "FM-11: HELP is all that there is", event)
        if not self.machine.established and self.machine.decision is None and not self.machine.ended:
            held = len(self.machine._input)
            require(held <= EARLY_TOKEN, "COM-2: before acceptance it is 4 KiB", held)

    def answer(self, code: int, now: float) -> list[Event]:
        """Answer the open Decision."""
        machine, watched = self.machine, self.watched
        decision = watched.decision
        if isinstance(decision, KeyExchangeRequested):
            require(2 <= decision.y <= P - 2, "FM-6: y lies in 2 … p-2", decision)
            return watched.verb(machine.key_exchanged, EXCHANGE, now)
        if isinstance(decision, AuthenticationRequested):
            if decision.password == b"right":
                self.proved = True
                return watched.verb(machine.accept, "ann", now)
            return watched.verb(machine.fail, now)
        if isinstance(decision, CommandReceived):
            if code % 3:
                return watched.verb(machine.reply, Reply(200, decision.name), now)
            return watched.verb(machine.hand_on, now)
        for verb in (machine.fail, machine.hand_on):
            watched.misuse(verb, now)
        watched.misuse(machine.key_exchanged, EXCHANGE, now)
        watched.misuse(machine.accept, "ann", now)
        watched.misuse(machine.reply, Reply(200, ""), now)
        return []

    def check_output(self) -> None:
        """All that it said: its line, the parameters, its key, tokens."""
        rest = bytes(self.watched.sent)
        require(rest.startswith(LINE), "FM-1: the server's line comes first", rest)
        rest = rest[len(LINE) :]
        for part in (encode_parameters(FFDHE2048), encode_public_key(FFDHE2048, SERVER_PUBLIC)):
            if not rest:
                return
            require(rest.startswith(part), "FM-4, FM-6: then the parameters, then the key", rest)
            rest = rest[len(part) :]
        for token in rest.split(b"\r\n")[:-1]:
            require(token.startswith(b"gAAAA"), "FM-7: then tokens only", token)
        require(rest.endswith(b"\r\n") or not rest, "FM-10: each ends with CRLF", rest)


def _converse(script: Script) -> None:
    server = _Server(SETTINGS[script.byte() % 2])
    watched, machine, now = server.watched, server.machine, float(NOW)
    past: list[bytes] = []
    while script.left and watched.ended is None:
        events: list[Event] = []
        match script.byte() % 13:
            case 0:
                events = watched.feed(script.chunk(), now)
            case 1:
                events = watched.feed(script.chunk() * (script.byte() + 1), now)
            case 2:
                for piece in cut(VERSION + KEX_ID, script.take(1)):
                    server.note(events)
                    events = watched.feed(piece, now)
            case 3:
                events = watched.feed((VERSION, VERSION[:-2], KEX_ID, *BAD_KEYS)[script.byte() % 7], now)
            case 4 | 5 | 6:
                token = server.token(TEXTS[script.byte() % len(TEXTS)])
                past.append(token)
                events = watched.feed(token + (b"", b"\r\n")[script.byte() % 2], now)
            case 7 if past:
                events = watched.feed(past[script.byte() % len(past)], now)
            case 8:
                now += script.byte() / 16
                events = watched.wake(now)
            case 9:
                now += script.byte() - 20
                events = watched.wake(now)
            case 10:
                events = server.answer(script.byte(), now)
            case 11:
                if script.byte() % 4 == 0:
                    events = watched.finish(now, clean=bool(script.byte() % 2))
            case 12:
                code = script.byte() % 4
                if code == 0:
                    outcome = Outcome.KICKED if machine.established else Outcome.SHUTDOWN
                    events = watched.verb(machine.close, outcome, "enough", now)
                elif code == 1 and watched.decision is not None:
                    events = watched.verb(machine.refuse, "no", now)
                elif machine.established:
                    machine.send(script.chunk(), now)
                    events = watched.wake(now)
                else:
                    watched.misuse(machine.send, b"", now)
        server.note(events)
    server.check_output()


def _drive(server: _Server, pieces: list[bytes]) -> None:
    for piece in pieces:
        server.note(server.watched.feed(piece, float(NOW)))
        while server.watched.decision is not None:
            server.note(server.answer(1, float(NOW)))


def _cut_up(script: Script) -> None:
    """The same bytes mean the same, however they are cut."""
    settings = SETTINGS[script.byte() % 2]
    sizes = script.take(2)
    whole, pieces = _Server(settings), _Server(settings)
    start = (b"", VERSION, VERSION + KEX_ID, VERSION + KEX_ID + whole.token(LINE))[script.byte() % 4]
    texts = [TEXTS[script.byte() % len(TEXTS)] for _ in range(script.byte() % 8)]
    ends = script.byte()
    data = start + b"".join(whole.token(text) + (b"\r\n" if ends >> at & 1 else b"") for at, text in enumerate(texts))
    data += script.rest()
    _drive(whole, [data])
    _drive(pieces, cut(data, sizes))
    if whole.watched.ended is None:
        whole.watched.finish(NOW + 1.0, clean=True)
    if pieces.watched.ended is None:
        pieces.watched.finish(NOW + 1.0, clean=True)
    events = whole.watched.events, pieces.watched.events
    require(events[0] == events[1], "segmentation changes nothing", *events)
    sent = whole.watched.sent, pieces.watched.sent
    require(sent[0] == sent[1], "segmentation changes nothing", *sent)
    whole.check_output()


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 3:
        _converse(script)
    else:
        _cut_up(script)


_UP = b"\2\xff\x0a\0\4\0\1"

SEEDS = (
    b"\1\0" + _UP + b"\4\2\1\x0a\0\4\1\0\x0a\0\4\5\1\x0a\1\4\4\1",
    b"\1\1" + _UP + b"\4\5\0\x0a\0\x0c\2" + chunk(b"200 a\r\n200") + b"\4\4\0",
    b"\1\0" + _UP + b"\4\2\1\x0a\0\4\2\1\x0a\0\4\2\1\x0a\0",
    b"\1\0\3\1\x08\5\3\2\x0a\0\x07\0",
    b"\1\0" + _UP + b"\7\0",
    b"\1\1" + _UP + b"\4\5\1\x0a\3\x09\xff",
    b"\1\0\3\0\3\3",
    b"\1\0" + _UP + b"\4\3\1\x0a\1\x0c\1",
    b"\0\0\7\x3f\3\4\1\5\3\4\xff",
    b"\0\1\1\1\3\5\5\x08\6\5\4\0",
    b"\0\0\x20\0\1\0\0" + KEX_ID,
    b"\0\0\3\3\0\0\0FlexMusic,1.0.0\r\n",
)
