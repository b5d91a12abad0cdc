"""FmLTP's plain texts: version lines, first messages, replies, commands; what is taken means what was written."""

from __future__ import annotations

from connectd.protocols.fmltp.packets import CommandLine, Ready, Reply, Version, comparison_code, split_command
from fuzz.script import Script
from fuzz.watched import require

BEGINNINGS = (
    b"", b"FlexMusic", b"FlexMusic,", b"FlexMusic Server,0.0.", b"100 FmLTP/1.0 Interpreter Ready.", b"200 ", b"AUTH ",
    b"100 FmLTP/1.0 Intepreter Ready\r\nAuthentication required", b"FlexMusic,1.2.3,",
)  # fmt: skip


def _version(data: bytes) -> None:
    try:
        version = Version.parse(data)
    except ValueError:
        return
    require(data.startswith(b"FlexMusic"), "FM-2: a name begins with FlexMusic", data)
    require(all(0 <= part < 10**9 for part in (version.x, version.y, version.z)), "FM-2: at most 9 digits", version)
    require(b"\n" not in data.strip() and "\r" not in version.name, "FM-2: it is one line", data)
    require(Version.parse(version.encode()) == version, "what we write we read", version)
    same = comparison_code(version, version)
    require(same == 100, "FM-9: a version is as new as itself", same)


def _ready(data: bytes) -> None:
    try:
        ready = Ready.parse(data)
    except ValueError:
        return
    require(ready.code // 100 == 1 and ready.code // 10 % 10 <= 2 and ready.code % 10 <= 2, "FM-9: 100 to 122", ready)
    require(ready.authentication_required == (b"Authentication required" in data), "FM-9: whether to AUTH", data)
    require(Ready.parse(ready.encode()) == ready, "what we write we read", ready)


def _reply(data: bytes) -> None:
    try:
        reply = Reply.parse(data)
    except ValueError:
        return
    require(100 <= reply.code <= 999, "FM-12: three digits", reply)
    require(Reply.parse(reply.encode()) == reply, "what we write we read", reply)


def _command(data: bytes) -> None:
    try:
        name, arguments = split_command(data)
    except ValueError:
        return
    require(name and " " not in name, "FM-11: a space ends the name", name)
    line = CommandLine(name, arguments).encode()
    require(line.count(b"\n") == 1 and line.endswith(b"\r\n"), "a command is one line", line)
    require(split_command(line) == (name, arguments), "what we write we read", line)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    beginning = BEGINNINGS[script.byte() % len(BEGINNINGS)]
    data = beginning + script.rest()
    for read in (_version, _ready, _reply, _command):
        read(data)


SEEDS = (
    b"\0FlexMusic Python Client Library,0.0.0\r\n",
    b"\1, and more,999999999.0.007 \t\n",
    b"\x03\x310",
    b"\4\r\nAuthentication required.\r\n",
    b"\7.\n",
    b"\0122 FmLTP/1.0 Intepreter Ready",
    b"\5Help:\r\nAUTH - \xc3\xa9\r\n",
    b"\6ann  open sesame \r\n",
    b"\0HELP\n",
)
