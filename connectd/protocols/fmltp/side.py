"""What FmLTP's two sides have in common: a version line, a PEM block, and then tokens."""

from __future__ import annotations

import enum
from typing import ClassVar, Final

import attrs

from connectd.protocols.fmltp.channel import Channel, ChannelError
from connectd.protocols.fmltp.packets import FRIENDLY_NAME, MAXIMUM_VERSION_LINE, Version
from connectd.protocols.fmltp.pem import PemError, PemReader
from connectd.sansio import Event, Machine, Outcome, Random, RemoteProtocolError
from connectd.wire import first_difference

QUIET: Final = 0.3
"""Seconds without a byte after which a version line without a line end is complete (FM-2)."""

EARLY_TOKEN: Final = 4096
"""Characters of the longest token before a session is accepted, and bytes that are held then."""

_FRIENDLY_NAME: Final = FRIENDLY_NAME.encode()


class State(enum.Enum):
    """Where a connection stands."""

    VERSION = "version exchange"
    PARAMETERS = "parameters"
    KEY = "key exchange"
    CHALLENGE = "challenge"
    LOCKDOWN = "lockdown"
    READY = "ready"

    __hash__ = object.__hash__  # that of Enum is Python, and states are looked up for each message


@attrs.frozen
class VersionReceived(Event):
    """The peer told its version, and it is one that we talk to.

    :param version: the peer's.
    :param code: how the client's compares to the server's: 100 … 122 (FM-9).
    """

    version: Version
    code: int


class Side(Machine):
    """One side of a connection.

    :param own: the version that it announces.
    :param now: when the connection stood, Unix seconds.
    :param handshake_timeout: seconds from then to KEX_FINAL (FM-14).
    :param random: gives random bytes.
    """

    __slots__ = ("_at", "_channel", "_complete", "_own", "_pem", "_quiet", "_random", "_state", "peer_version")

    early_limit: ClassVar[int] = EARLY_TOKEN

    def __init__(self, own: Version, *, now: float, handshake_timeout: float, random: Random) -> None:
        super().__init__(now=now, handshake_timeout=handshake_timeout)
        self._own = own
        self._random = random
        self._state = State.VERSION
        self._at = 0
        self._pem: PemReader | None = None
        self._channel: Channel | None = None
        self._quiet: float | None = None
        self._complete = False
        self.peer_version: Version | None = None

    @property
    def locked(self) -> bool:
        """Whether the channel stands and an AUTH has to succeed before anything else (FM-11)."""
        return self._state is State.LOCKDOWN

    @property
    def clock_offset(self) -> float | None:
        """The peer's clock minus ours, in seconds, by its first token; None until then (FM-15)."""
        return None if self._channel is None else self._channel.offset

    # What drives the machine

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        events = self._hush(now)
        if self.ended:
            return events
        events += super().receive_data(data, now)
        if self._state is State.VERSION and not self.ended:
            # Whether the line has the form is looked at once, when it is quiet, not at each byte.
            self._quiet = now + QUIET
        return events

    def deadline(self) -> float | None:
        if self.ended:
            return None
        times = [time for time in (self._deadline, self._quiet, self._resumption()) if time is not None]
        return min(times, default=None)

    def handle_deadline(self, now: float) -> list[Event]:
        if self.ended:
            return []
        if self._deadline is not None and now >= self._deadline:
            return self._expire(now)
        resumption = self._resumption()
        if resumption is not None and now >= resumption:
            return self._advance(now)
        return self._hush(now)

    @property
    def wants_data(self) -> bool:
        if self._resumption() is not None:
            return False
        if self._decision is None:
            return True
        return len(self._input) < (self.held_limit if self.established else self.early_limit)

    def _resumption(self) -> float | None:
        """When a channel that takes no more will take more (FM-15)."""
        return None if self._channel is None or self._decision is not None else self._channel.full_until

    def _hush(self, now: float) -> list[Event]:
        """Take a version line without its end for complete, where it has been quiet for long enough (FM-2)."""
        if self._quiet is None or now < self._quiet:
            return []
        self._quiet = None
        self._complete = True
        try:
            return self._advance(now)
        finally:
            self._complete = False

    def _unfinished(self) -> bool:
        return bool(self._input.strip(b"\r\n"))

    # What a side reads

    def _read_version(self) -> tuple[Version, bytes] | None:
        """The peer's version and its line, without line end, once that is complete (FM-2)."""
        data = self._input
        wrong = first_difference(data, _FRIENDLY_NAME)
        if wrong is not None:
            raise RemoteProtocolError("not a FlexMusic peer", wrong)
        end = data.find(b"\n", 0, MAXIMUM_VERSION_LINE) + 1
        if not end:
            if len(data) > MAXIMUM_VERSION_LINE:
                reason = f"a version line of more than {MAXIMUM_VERSION_LINE} bytes"
                raise RemoteProtocolError(reason, MAXIMUM_VERSION_LINE)
            if not self._complete:
                return None
        line = bytes(data[:end] if end else data)
        try:
            version = Version.parse(line)
        except ValueError:
            if not end:
                return None
            raise RemoteProtocolError("a version line of another form", 0) from None
        self._consume(len(line))
        self._quiet = None
        self.peer_version = version
        return version, line.strip()

    def _incompatible(self, version: Version) -> RemoteProtocolError:
        """FM-3: sides of different classes do not talk."""
        reason = f"the peer is FlexMusic {version} and this is {self._own}: they differ in their class, x"
        return RemoteProtocolError(reason, 0, outcome=Outcome.REFUSED)

    def _read_pem(self) -> tuple[bytes, bytes, int] | None:
        """A PEM block's label, its contents, and its end, once it is whole. It is not consumed."""
        assert self._pem is not None
        try:
            block = self._pem.read(self._input)
        except PemError as error:
            raise RemoteProtocolError(f"{self._state.value}: {error}", self._consumed + error.offset) from None
        return None if block is None else (self._pem.label, *block)

    # The channel

    def _open_channel(self, secret: bytes) -> Channel:
        """From now on there are tokens only (FM-7)."""
        self._channel = Channel(secret, random=self._random, maximum=EARLY_TOKEN)
        return self._channel

    def _read_token(self, now: float) -> bytes | None:
        """The plaintext of the next token (FM-10); :attr:`_at` is where it began."""
        assert self._channel is not None
        channel, data = self._channel, self._input
        skipped = channel.skip(data)
        if skipped:
            self._consume(skipped)
        try:
            found = channel.open(data, now)
        except ChannelError as error:
            raise RemoteProtocolError(f"{self._state.value}: {error}", self._consumed + error.offset) from None
        if found is None:
            return None
        plaintext, size = found
        self._at = self._consumed
        self._consume(size)
        return plaintext

    def _say(self, plaintext: bytes, now: float) -> None:
        """Queue a token."""
        assert self._channel is not None
        self._output.append(self._channel.seal(plaintext, now))
