"""The loop of a worker process, in this one."""

from __future__ import annotations

import io
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from connectd.workers.child import load, read_frame, serve
from connectd.workers.frames import MAXIMUM_FRAME, FrameBuffer, Status, encode

MODULE = "tests.workers.functions"
TIME = (1500).to_bytes(8, "big")


class ServeTests(SynchronousTestCase):
    """serve"""

    def answers(
        self, *frames: bytes, limit_time: Callable[[float], object] = lambda seconds: None
    ) -> list[tuple[int, list[bytes]]]:
        """What comes back for these frames."""
        sink = io.BytesIO()
        serve(io.BytesIO(b"".join(frames)), sink, limit_time)
        return FrameBuffer().feed(sink.getvalue())

    def first(self, *names: str) -> bytes:
        return encode(0, [f"{MODULE}:{name}".encode() for name in names])

    def test_jobs(self) -> None:
        """Each job is answered in order, with its time set before it and taken back after it."""
        times: list[float] = []
        found = self.answers(
            self.first("reverse", "raises"),
            encode(0, [TIME, b"abc", b""]),
            encode(1, [TIME, b"secret"]),
            encode(0, [TIME]),
            limit_time=times.append,
        )
        self.assertEqual(
            found,
            [(Status.READY, []), (Status.DONE, [b"cba", b""]), (Status.RAISED, [b"KeyError"]), (Status.DONE, [])],
        )
        self.assertEqual(times, [3.5, 0, 3.5, 0, 3.5, 0])

    def test_too_much(self) -> None:
        """A result that no frame has room for is an error of that job."""
        found = self.answers(self.first("huge", "reverse"), encode(0, [TIME]), encode(1, [TIME, b"ab"]))
        self.assertEqual(found[1:], [(Status.RAISED, [b"ValueError"]), (Status.DONE, [b"ba"])])

    def test_not_in_the_list(self) -> None:
        """A number beyond the list reaches no function."""
        self.assertEqual(self.answers(self.first("reverse"), encode(1, [TIME]))[1:], [(Status.RAISED, [b"IndexError"])])

    def test_unusable(self) -> None:
        """A function that is not there is told once, with its name."""
        for names, expected in ((["nothing"], b"nothing"), (["MODULES"], b"MODULES")):
            [(status, [text])] = self.answers(self.first(*names))
            self.assertEqual(status, Status.UNUSABLE)
            self.assertIn(expected, text)
        [(status, [text])] = self.answers(encode(0, [b"no.such.module:function"]))
        self.assertEqual(status, Status.UNUSABLE)
        self.assertIn(b"ModuleNotFoundError", text)

    def test_end_of_input(self) -> None:
        """Without an end of its own: before the first frame, and in the middle of one."""
        self.assertEqual(self.answers(), [])
        whole = encode(0, [TIME, b"abc"])
        for cut in range(len(whole)):
            self.assertEqual(self.answers(self.first("reverse"), whole[:cut]), [(Status.READY, [])])

    def test_bound(self) -> None:
        """COM-2: a frame beyond the bound is not read."""
        self.assertIsNone(read_frame(io.BytesIO((MAXIMUM_FRAME + 1).to_bytes(4, "big") + bytes(64))))

    def test_load(self) -> None:
        self.assertEqual(load(f"{MODULE}:reverse")(b"ab"), [b"ba"])
        with self.assertRaises(ImportError):
            load(f"{MODULE}:__name__")
