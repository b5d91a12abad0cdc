"""What the tests ask worker processes for."""

from __future__ import annotations

import os
import signal
import sys
import time


def reverse(*parts: bytes) -> list[bytes]:
    """Each part backwards, in order."""
    return [part[::-1] for part in parts]


def pid() -> list[bytes]:
    """The number of the process."""
    return [b"%d" % os.getpid()]


def raises(secret: bytes) -> list[bytes]:
    raise KeyError(secret)


def dies() -> list[bytes]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def hangs() -> list[bytes]:
    """Hold the interpreter lock, as a computation in C does: only the kernel can end it."""
    while True:
        pow(3, 1 << 2000, (1 << 2000) - 1)


def sleeps(seconds: bytes) -> list[bytes]:
    time.sleep(float(seconds))
    return []


def prints() -> list[bytes]:
    """Neither what is printed nor what is read gets in the way of the frames."""
    print("hello", flush=True)
    os.write(1, b"\xff\xff\xff\xff")
    return [sys.stdin.buffer.read()]


def huge() -> list[bytes]:
    """More than a frame has room for."""
    return [bytes(1 << 21)]


def niceness() -> list[bytes]:
    return [b"%d" % os.nice(0)]


def environment() -> list[bytes]:
    return [f"{name}={value}".encode() for name, value in os.environ.items()]


def closes_its_pipes() -> list[bytes]:
    """Be there, and be deaf and dumb."""
    os.closerange(3, 256)
    time.sleep(600)
    return []
