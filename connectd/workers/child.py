"""A worker process: ``python -m connectd.workers.child``, started by :mod:`connectd.workers.processes` and nobody else.

It learns from the first frame which functions it may call and how far to stand back behind other processes (its
niceness). From then on jobs name functions by their number in that list: nothing that comes later can make it run
anything else. It ends when its standard input does, that is with the
process that started it, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import BinaryIO

from connectd.workers.frames import LENGTH, MAXIMUM_FRAME, Status, decode, encode

Function = Callable[..., Sequence[bytes]]
"""What a worker can be asked for: bytes as arguments, bytes as results."""

GRACE = 2.0
"""Seconds beyond a job's time after which the child ends itself, for the case that nobody is left to end it."""

_PR_SET_PDEATHSIG = 1


def load(name: str) -> Function:
    """The function of a name as ``package.module:function``.

    :raises ImportError: where there is none.
    """
    module, _, attribute = name.partition(":")
    function = getattr(import_module(module), attribute, None)
    if not callable(function):
        raise ImportError(f"{module} has no function {attribute}")
    found: Function = function
    return found


def read_frame(source: BinaryIO) -> tuple[int, list[bytes]] | None:
    """The next frame, or None at the end of the input."""
    header = source.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    if length > MAXIMUM_FRAME:
        return None
    body = source.read(length)
    return None if len(body) < length else decode(body)


def serve(source: BinaryIO, sink: BinaryIO, limit_time: Callable[[float], object]) -> None:
    """Answer jobs until the input ends.

    :param limit_time: called before a job with the seconds after which this process is to end, after it with 0.
    """
    first = read_frame(source)
    if first is None:
        return
    with contextlib.suppress(OSError):
        os.nice(first[0])
    try:
        functions = [load(name.decode()) for name in first[1]]
    except Exception as error:
        # There are no secrets yet that its text could hold.
        text = f"{type(error).__name__}: {error}"
        _answer(sink, encode(Status.UNUSABLE, [text.encode("utf-8", "backslashreplace")[:1000]]))
        return
    _answer(sink, encode(Status.READY, ()))
    while (job := read_frame(source)) is not None:
        number, (milliseconds, *arguments) = job
        limit_time(int.from_bytes(milliseconds, "big") / 1000 + GRACE)
        try:
            answer = encode(Status.DONE, functions[number](*arguments))
        except Exception as error:
            answer = encode(Status.RAISED, [type(error).__name__.encode()])
        limit_time(0)
        _answer(sink, answer)


def _answer(sink: BinaryIO, data: bytes) -> None:
    sink.write(data)
    sink.flush()


def harden() -> None:
    """Leave no key behind in a core file, ignore what a terminal says to the daemon, and end with it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        # The daemon drains on these, and its last handshakes still have to be answered.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        # The end of the input is seen between two jobs only; one that takes a minute has to end with the daemon, too.
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def main() -> None:
    """Serve on standard input and output, of which the functions see nothing."""
    harden()
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    with contextlib.suppress(BrokenPipeError):
        serve(source, sink, lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds))
    # Nothing is left to be flushed, and the interpreter's own way out takes a while.
    os._exit(0)


if __name__ == "__main__":
    main()
