"""FmLTP's client machine: a server that says anything, or all the right things in any order, cut up in any way."""

from __future__ import annotations

from connectd.protocols.fmltp.client_machine import ClientMachine, KeyPairRequested, ReplyReceived, SecretRequested
from connectd.protocols.fmltp.exchange import KeyPair
from connectd.protocols.fmltp.groups import FFDHE2048, encode_parameters
from connectd.protocols.fmltp.keys import encode_public_key
from connectd.protocols.fmltp.packets import DEPLOYED_COMMAND_LIMIT
from connectd.protocols.fmltp.settings import FmltpClientSettings
from connectd.sansio import Established, Event, Outcome
from fuzz.fmltp_server import BAD_KEYS, KEY, LINE, NOW, PUBLIC, SECRET, SERVER_PUBLIC, X
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

PAIR = KeyPair(X, PUBLIC)
SETTINGS = (FmltpClientSettings(), FmltpClientSettings(minimum_bits=512, command_limit=20, reply_timeout=5.0))
PARAMETERS = encode_parameters(FFDHE2048)
SERVER_KEX_ID = encode_public_key(FFDHE2048, SERVER_PUBLIC)
HANDSHAKE = LINE + PARAMETERS + SERVER_KEX_ID
TEXTS = (
    b"100 FmLTP/1.0 Interpreter Ready.\r\n", b"100 FmLTP/1.0 Interpreter Ready.\r\nAuthentication required.\r\n",
    b"100 FmLTP/1.0 Intepreter Ready\r\n", b"150 Authentication successful.\r\n", b"151 Authentication failed.\r\n",
    b"200 Goodbye.\r\n", b"200 x" + b"y" * 42, b"420 Server is shutting down\r\n", b"\xff", b"", b"no reply",
)  # fmt: skip
MOST_INPUT = 65_536 + 255 * 256


class _Client:
    """A client, and its server's end of the channel."""

    def __init__(self, settings: FmltpClientSettings) -> None:
        self.machine = ClientMachine(settings, now=NOW, random=bytes)
        self.watched = Watched(self.machine, MOST_INPUT)
        self.tokens = 0
        self.asked: list[str] = []

    def token(self, text: bytes) -> bytes:
        """A token of the server's."""
        self.tokens += 1
        return KEY.encrypt(text, NOW, self.tokens.to_bytes(16, "big"))

    def note(self, events: list[Event]) -> None:
        """Replies come in the order of the commands."""
        for event in events:
            if isinstance(event, ReplyReceived):
                require(
                    self.asked and self.asked[0] == event.command, "FM-12: replies come in order", event, self.asked
                )
                self.asked.pop(0)

    def answer(self, now: float) -> list[Event]:
        """Answer the open Decision."""
        machine, watched = self.machine, self.watched
        decision = watched.decision
        if isinstance(decision, KeyPairRequested):
            require(512 <= decision.group.bits <= 4096, "FM-5: the sizes hold", decision)
            return watched.verb(machine.key_pair_made, PAIR, now)
        if isinstance(decision, SecretRequested):
            require(2 <= decision.y <= decision.group.p - 2, "FM-6: y lies in 2 … p-2", decision)
            require(decision.pair == PAIR, "the pair is ours", decision)
            return watched.verb(machine.secret_computed, SECRET, now)
        watched.misuse(machine.key_pair_made, PAIR, now)
        watched.misuse(machine.secret_computed, SECRET, now)
        return []

    def command(self, code: int, now: float) -> list[Event]:
        """Send a command, where that is possible."""
        machine = self.machine
        text = ("HELP", "AUTH ann x", "QUIT", "PLAY a song", "P" * 20)[code % 5]
        if not machine.can_command:
            self.watched.misuse(machine.command, text, now)
            return []
        limit = machine.command_limit
        require(not machine.deployed or limit <= DEPLOYED_COMMAND_LIMIT or limit == 20, "FM-10: 703 bytes", limit)
        self.watched.misuse(machine.command, "P" * (limit + 1), now)
        self.asked.append(text.partition(" ")[0])
        return self.watched.verb(machine.command, text, now)


def _converse(script: Script) -> None:
    client = _Client(SETTINGS[script.byte() % 2])
    watched, machine, now = client.watched, client.machine, float(NOW)
    past: list[bytes] = []
    while script.left and watched.ended is None:
        events: list[Event] = []
        match script.byte() % 12:
            case 0:
                events = watched.feed(script.chunk(), now)
            case 1:
                events = watched.feed(script.chunk() * (script.byte() + 1), now)
            case 2:
                for piece in cut(HANDSHAKE, script.take(1)):
                    events += watched.feed(piece, now)
                    while watched.decision is not None:
                        events += client.answer(now)
            case 3:
                events = watched.feed((LINE, LINE[:-2], PARAMETERS, SERVER_KEX_ID, *BAD_KEYS)[script.byte() % 8], now)
            case 4 | 5 | 6:
                token = client.token(TEXTS[script.byte() % len(TEXTS)])
                past.append(token)
                events = watched.feed(token + (b"", b"\r\n")[script.byte() % 2], now)
            case 7:
                code = script.byte()
                back = bytes(watched.sent[watched.sent.find(b"gAAA") :]) if code % 2 else b"".join(past[-1:])
                events = watched.feed(back, now)
            case 8:
                now += (script.byte() - 20) / (1 + script.byte() % 64)
                events = watched.wake(now)
            case 9:
                events = client.answer(now)
            case 10:
                events = client.command(script.byte(), now)
            case 11:
                match script.byte() % 8:
                    case 0:
                        events = watched.finish(now, clean=bool(script.byte() % 2))
                    case 1:
                        outcome = Outcome.LEFT if machine.established else Outcome.ABORTED
                        events = watched.verb(machine.close, outcome, "enough", now)
                    case 2 if watched.decision is not None:
                        events = watched.verb(machine.refuse, "no", now)
        client.note(events)


def _cut_up(script: Script) -> None:
    """The same bytes mean the same, however they are cut."""
    settings = SETTINGS[script.byte() % 2]
    sizes = script.take(2)
    whole, pieces = _Client(settings), _Client(settings)
    start = (b"", LINE, LINE + PARAMETERS, HANDSHAKE)[script.byte() % 4]
    texts = [TEXTS[script.byte() % len(TEXTS)] for _ in range(script.byte() % 8)]
    ends = script.byte()
    data = start + b"".join(whole.token(text) + (b"\r\n" if ends >> at & 1 else b"") for at, text in enumerate(texts))
    data += script.rest()
    for client, parts in ((whole, [data]), (pieces, cut(data, sizes))):
        for part in parts:
            client.watched.feed(part, float(NOW))
            while client.watched.decision is not None:
                client.answer(float(NOW))
        if client.watched.ended is None:
            client.watched.finish(NOW + 1.0, clean=True)
    events = whole.watched.events, pieces.watched.events
    require(events[0] == events[1], "segmentation changes nothing", *events)
    require(whole.watched.sent == pieces.watched.sent, "segmentation changes nothing", whole.watched.sent)
    if any(isinstance(event, Established) for event in events[0]):
        require(TEXTS[0] in texts or TEXTS[2] in texts, "FM-9: the server said that it is ready", texts)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 3:
        _converse(script)
    else:
        _cut_up(script)


SEEDS = (
    b"\1\0\2\xff\4\0\1\x0a\0\4\6\0\x0a\3\4\6\1\x0b\1",
    b"\1\0\2\x1f\4\1\1\x0a\1\4\4\1\x0a\1\4\3\1\x0a\0\4\6\1",
    b"\1\1\2\xff\4\2\0\x0a\4\x0a\0\4\6\0\4\7\1\x0b\0\1",
    b"\1\0\3\0\3\2\x09\3\3\x09\4\0\0",
    b"\1\0\3\1\x08\x40\x40\3\2\x0b\2",
    b"\1\0\2\xff\4\0\1\x0a\0\7\1",
    b"\1\0\2\xff\4\0\1\4\6\0\7\0",
    b"\1\1\2\xff\4\0\1\x0a\0\x08\xff\0",
    b"\1\0\3\0\0" + chunk(PARAMETERS[:200]) + b"\3\5",
    b"\0\0\3\x40\3\3\1\4\3\xff",
    b"\0\1\0\0\3\4\2\6\6\7\0",
    b"\0\0\7\7\0\0\0FlexMusic,1.0.0\r\n",
)
