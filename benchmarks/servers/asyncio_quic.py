"""The baseline for QUIC handshakes: aioquic's own server on asyncio, which answers the first bytes of each stream."""

from __future__ import annotations

import asyncio

from aioquic.asyncio.server import serve as serve_quic
from aioquic.quic.configuration import QuicConfiguration

from benchmarks.harness.control import Commands
from benchmarks.servers.quic import ALPN, REPLY
from connectd.net.certificates import make_certificate
from connectd.net.quic import Identity
from connectd.net.quic.parameters import VERSIONS


def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A stream was opened by its first bytes: they are the whole request."""
    writer.write(REPLY)


async def serve() -> Commands:
    """Listen, with the same versions of QUIC as connectd."""
    identity = Identity.from_pem(make_certificate(["localhost"]))
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=[ALPN],
        certificate=identity.leaf,
        certificate_chain=[],
        private_key=identity.key,
        supported_versions=list(VERSIONS),
    )
    server = await serve_quic("127.0.0.1", 0, configuration=configuration, stream_handler=greet)
    transport = server._transport
    assert transport is not None
    port = transport.get_extra_info("sockname")[1]
    return {"port": lambda: port}
