"""The sample handler, as its file has it: players that talk to themselves."""

from __future__ import annotations

from typing import Any

from connectd.protocols.starbound.encoding import encode_bytes
from connectd.protocols.starbound.frames import Frame
from tests.processes import ROOT
from tests.protocols.starbound.scene import Scene

FILE = ROOT / "docs" / "examples" / "starbound_echo.py"


class EchoTests(Scene):
    def test_chat(self) -> None:
        """A line of chat comes back, in both generations; other packets do not."""
        source = FILE.read_text(encoding="utf-8")
        handler, rest = source.split("\napplication = ")
        self.assertIn('handlers={"echo": Echo()}', rest)
        module: dict[str, Any] = {"__name__": "example"}
        exec(compile(handler, str(FILE), "exec"), module)  # our own file
        self.network.handlers["echo"] = module["Echo"]()
        listener = self.serve(("seed", "1.4"), anonymous=True, handler="echo")
        for generation in ("seed", "1.4"):
            dialled = self.dial(listener, generation, account="")
            self.network.advance(1, 0.1)
            session = self.successResultOf(dialled)
            session.send(Frame(99, b"something else"))
            session.send(Frame(module["CHAT_SEND"][generation], encode_bytes(b"hello there") + b"\0"))
            self.network.settle()
            (heard,) = session._frames
            self.assertEqual(heard.id, module["CHAT_RECEIVE"][generation])
            self.assertTrue(heard.payload.endswith(encode_bytes(b"hello there")))
            session.leave()
            self.network.settle()

    def test_page(self) -> None:
        """The page shows what the file has."""
        page = (ROOT / "docs" / "protocols" / "starbound.md").read_text(encoding="utf-8")
        (shown,) = [part.split("```")[0] for part in page.split("```python\n") if "class Echoing" in part]
        self.assertIn(shown.rstrip(), FILE.read_text(encoding="utf-8"))
