"""Who may say what when, in lines of UTF-8.

The client says ``NAME text``, the server ``WELCOME text`` or ``NO text``. Then both cry: ``CRY text``. The server's
last words are ``BYE text``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from connectd import sansio
from connectd.wire import one_line
from connectd_herald.settings import HeraldClientSettings, HeraldSettings


@attrs.frozen
class Cry:
    """A message, in both directions."""

    text: str

    def encode(self) -> bytes:
        return line("CRY", self.text)


@attrs.frozen
class NameGiven(sansio.Decision):
    """Somebody wants to come in. Verb: :meth:`ServerMachine.accept`."""

    name: str


def line(word: str, text: str) -> bytes:
    return f"{word} {' '.join(text.split())}\n".encode()


class LineMachine(sansio.Machine):
    """What both sides have in common.

    :param longest: bytes of a line that are believed.
    """

    __slots__ = ("longest", "text")

    def __init__(self, longest: int, *, now: float, handshake_timeout: float) -> None:
        super().__init__(now=now, handshake_timeout=handshake_timeout)
        self.longest = longest
        self.text = ""

    def _step(self, now: float) -> list[sansio.Event] | None:
        """Take one line, or say with None that more bytes are needed."""
        end = self._input.find(b"\n", 0, self.longest + 1)
        if end < 0:
            if len(self._input) > self.longest:
                raise sansio.RemoteProtocolError("a line too long", self._consumed + self.longest)
            return None
        word, _, self.text = one_line(bytes(self._input[:end])).partition(" ")
        meaning = _TABLE.get((type(self), self.established, word))
        if meaning is None:
            raise sansio.RemoteProtocolError(f'"{word[:16]}" is not expected here', self._consumed)
        self._consume(end + 1)
        return [meaning(self)]

    def _let_in(self) -> sansio.Event:
        self.established = True
        self._deadline = None
        return sansio.Established()

    def send(self, message: Cry | bytes, now: float) -> None:
        if not self.established:
            raise sansio.LocalProtocolError("send: nobody is in yet")
        self._output.append(message if isinstance(message, bytes) else message.encode())


class ServerMachine(LineMachine):
    """The server's side of one connection."""

    __slots__ = ("greeting", "name")

    def __init__(self, settings: HeraldSettings, *, now: float) -> None:
        super().__init__(settings.longest_line, now=now, handshake_timeout=settings.handshake_timeout)
        self.greeting = settings.greeting

    def accept(self, now: float) -> list[sansio.Event]:
        """Let them in, and go on with what they have said meanwhile."""
        self.name = self._decided(NameGiven, "accept").name
        self._output.append(line("WELCOME", self.greeting))
        return [self._let_in(), *self._advance(now)]

    def _refusal(self, outcome: sansio.Outcome, text: str) -> bytes:
        return line("BYE" if self.established else "NO", text)


class ClientMachine(LineMachine):
    """The client's side of one connection."""

    __slots__ = ()

    def __init__(self, settings: HeraldClientSettings, *, now: float) -> None:
        super().__init__(65536, now=now, handshake_timeout=settings.handshake_timeout)
        self._output.append(line("NAME", settings.name))


_TABLE: dict[tuple[type[LineMachine], bool, str], Callable[[Any], sansio.Event]] = {
    (ServerMachine, False, "NAME"): lambda machine: NameGiven(machine.text),
    (ServerMachine, True, "CRY"): lambda machine: sansio.Received(Cry(machine.text)),
    (ClientMachine, False, "WELCOME"): LineMachine._let_in,
    (ClientMachine, False, "NO"): lambda machine: machine._finish(sansio.Outcome.REFUSED, machine.text),
    (ClientMachine, True, "CRY"): lambda machine: sansio.Received(Cry(machine.text)),
    (ClientMachine, True, "BYE"): lambda machine: machine._finish(sansio.Outcome.LEFT, machine.text),
}
