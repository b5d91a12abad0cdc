"""The Chatr pages say what is so: their bytes are those of the code, their tables are complete, every rule has its place."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr import packets, registration, rendezvous, server_machine, side
from connectd.protocols.chatr.settings import ChatrClientSettings, ChatrSettings
from tests.test_documentation import blocks, page, section

PAGE = "protocols/chatr.md"
PACKETS = (
    "Connect",
    "Disconnect",
    "Connected",
    "Ping",
    "Pong",
    "ConnectionRequest",
    "ConnectionRequestAccept",
    "ConnectionRequestDenied",
    "ClientInfo",
)
EXPRESSIONS: dict[str, Any] = {
    **{name: getattr(packets, name) for name in PACKETS},
    "ip": ip_address,
    "ALICE": UUID("0a11ce00-0000-4000-8000-000000000001"),
    "BOB": UUID("00000b0b-0000-4000-8000-000000000002"),
}


class PageTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        """CH-1 to CH-7: every packet is shown once, in the bytes that the code encodes, with the right offsets."""
        shown = []
        for block in blocks(page(PAGE), "wire"):
            data = b""
            for line in block.body.splitlines():
                match = re.fullmatch(r" *(\d+)  ((?:[0-9a-f]{2} ?)+)(?: +.*)?", line)
                assert match is not None, line
                self.assertEqual(int(match[1]), len(data), f"{block.argument}: {line}")
                data += bytes.fromhex(match[2])
            self.assertEqual(data, eval(block.argument, dict(EXPRESSIONS)).encode(), block.argument)
            shown.append(block.argument.partition("(")[0])
        self.assertEqual(sorted(shown), sorted(PACKETS))

    def test_opcodes(self) -> None:
        """CH-1: the table of packets."""
        rows = re.findall(r"^\| (\d) \| (\w+) \| (\w+) \|", page(PAGE), re.MULTILINE)
        self.assertEqual([(int(opcode), name) for opcode, name, _ in rows], list(enumerate(PACKETS)))
        client = {name for _, name, sender in rows if sender in ("client", "both")}
        allowed = {opcode for opcodes in server_machine._OPCODES.values() for opcode in opcodes}
        self.assertEqual({PACKETS[opcode] for opcode in allowed}, client)

    def test_every_rule(self) -> None:
        """CH-1 to CH-11 and CH-20 to CH-23 have a heading each."""
        found = [int(number) for number in re.findall(r"^### CH-(\d+): ", page(PAGE), re.MULTILINE)]
        self.assertEqual(found, [*range(1, 12), *range(20, 24)])

    def test_texts(self) -> None:
        """CH-1 to CH-5: what the server says is in the table, in these words."""
        said = section(page(PAGE), "### What the server says")
        for text in (
            side.INVALID_PACKET,
            server_machine.FAILED_TO_VERIFY,
            server_machine.ALREADY_CONNECTED,
            server_machine.TIME_OUT,
        ):
            self.assertIn(f"`{text}`", said)

    def test_statuses(self) -> None:
        """CH-20: every status and error type is in the table, and no other."""
        rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section(page(PAGE), "### CH-20: what it answers"), re.MULTILINE)
        expected = {(status, name) for name, status in registration.STATUS.items()}
        expected |= set(registration.OTHER_ERRORS.items())
        self.assertEqual({(int(status), name) for status, name in rows}, expected)

    def test_numbers(self) -> None:
        """CH-3, CH-5, CH-7, CH-9, CH-11, CH-20: the numbers of the page are those of the code."""
        text = page(PAGE)
        settings, client = ChatrSettings(), ChatrClientSettings()
        for sentence, number in (
            ("| a frame before Connected | 2 KiB |", server_machine.MAXIMUM_FIRST_FRAME // 1024 - 2),
            ("| a frame after it | 8 KiB |", side.MAXIMUM_FRAME // 1024 - 8),
            ("| a String | 1 KiB |", packets.MAXIMUM_STRING // 1024 - 1),
            ("waits, up to 16 KiB,", server_machine.ServerMachine.held_limit // 1024 - 16),
            ("| pending requests of a requester | 32 |", rendezvous.REQUESTS_PER_REQUESTER - 32),
            ("| pending requests to a target | 64 |", rendezvous.REQUESTS_PER_TARGET - 64),
            ("| requests | 1 a second, 10 at once |", rendezvous.REQUEST_RATE - 1 or rendezvous.REQUEST_BURST - 10),
            ("A request is pending for 30 seconds", rendezvous.PENDING_TIME - 30),
            ("together | 30 s (`handshake_timeout`)", settings.handshake_timeout - 30),
            ("whole Connect | 10 s (`connect_timeout`)", settings.connect_timeout - 10),
            ("and waits 3 seconds.", server_machine.PROBE_TIMEOUT - 3),
            ("the next 5 seconds after the matching Pong", server_machine.PING_INTERVAL - 5),
            ("in the 15 seconds after a Ping", server_machine.PING_TIMEOUT - 15),
            ("came for 30 seconds (`silence_timeout`)", client.silence_timeout - 30),
            ("on\n`peer_port` (1231)", client.peer_port - 1231),
            ("a body over 16 KiB", registration.MAXIMUM_BODY // 1024 - 16),
            ("`registration_rate`, 10 a minute", settings.registration_rate - 10),
        ):
            self.assertIn(sentence, text)
            self.assertEqual(number, 0, sentence)

    def test_threat_model(self) -> None:
        """The weaknesses of version 1 are named where people look for them."""
        text = page("chatr-threat-model.md")
        for sentence in ("a bearer token for life", "is not proven", "Presence shows in time"):
            self.assertIn(sentence, text)
