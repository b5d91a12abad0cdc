"""Lines that somebody types, or that come through a pipe, without holding up the reactor."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

LONGEST_LINE = 65_536
"""Bytes of a line of piped input; what is longer cannot be a command."""


class LineTooLong(ValueError):
    """A line is longer than any command."""


class Lines:
    """Lines of standard input.

    Reading waits, and waits in a thread of its own. Nothing can take such a thread back from its system call, so it is
    a daemon thread, which the end of the process does not wait for.

    :param descriptor: what to read.
    """

    interactive = False

    def __init__(self, descriptor: int = 0) -> None:
        self.names: list[str] = []
        """The names of commands, to complete a line with."""
        self._descriptor = descriptor
        self._buffer = b""
        self._requests: queue.SimpleQueue[tuple[Any, Callable[[], Any], Deferred[Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def read(self, reactor: Any, question: str) -> Deferred[str | None]:
        """The next line without its end, or None at the end of the input.

        :param question: what somebody at a terminal is shown.
        """
        return self._ask(reactor, lambda: self.read_line(question))

    def read_password(self, reactor: Any, question: str) -> Deferred[str]:
        """A password, typed without echo.

        :raises OSError: where there is nobody to ask.
        """
        return self._ask(reactor, lambda: self.type_password(question))

    def _ask(self, reactor: Any, function: Callable[[], Any]) -> Deferred[Any]:
        answered: Deferred[Any] = Deferred()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="fmltp shell input", daemon=True)
            self._thread.start()
        self._requests.put((reactor, function, answered))
        return answered

    def _serve(self) -> None:
        while True:
            reactor, function, answered = self._requests.get()
            try:
                result = function()
            except Exception:
                reactor.callFromThread(answered.errback, Failure())
            else:
                reactor.callFromThread(answered.callback, result)

    # In the thread

    def read_line(self, question: str) -> str | None:
        """Wait for a line."""
        # Not through sys.stdin, whose lock the thread would hold at the end of the process.
        while b"\n" not in self._buffer:
            data = os.read(self._descriptor, 65_536)
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest.decode() if rest else None
            self._buffer += data
            if len(self._buffer) > LONGEST_LINE and b"\n" not in self._buffer:
                raise LineTooLong(f"a line of more than {LONGEST_LINE} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode()

    def type_password(self, question: str) -> str:
        """Wait for a password."""
        raise OSError("there is no terminal to ask for the password on")


class Terminal(Lines):
    """Lines that somebody types, with the editing, history and completion of readline.

    The history is in memory only, and lines with passwords are not in it.
    """

    interactive = True

    def __init__(self) -> None:
        super().__init__()
        self._readline: Any = None
        self._mode: Any = None

    def __enter__(self) -> Terminal:
        import termios

        self._mode = termios.tcgetattr(self._descriptor)
        with contextlib.suppress(ImportError):  # not every Python has it
            import readline

            self._readline = readline
            readline.set_auto_history(False)
            readline.set_completer_delims(" ")
            readline.set_completer(self.complete)
            libedit = "libedit" in (readline.__doc__ or "")
            readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back as it was: the thread may still be in the middle of a line."""
        import termios

        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._mode)

    def complete(self, text: str, state: int) -> str | None:
        """The candidate of that number for the word that is being typed: the first of a line is a command, and so is
        that behind HELP."""
        before = self._readline.get_line_buffer()[: self._readline.get_begidx()].strip().upper()
        if before not in ("", "HELP"):
            return None
        found = [name for name in self.names if name.startswith(text.upper())]
        return f"{found[state]} " if state < len(found) else None

    def read_line(self, question: str) -> str | None:
        try:
            line = input(question)
        except EOFError:
            print()
            return None
        if self._readline is not None and line and line.split(" ", 1)[0].upper() != "AUTH":
            self._readline.add_history(line)
        return line

    def type_password(self, question: str) -> str:
        from getpass import getpass

        sys.stdout.flush()
        return getpass(question)
