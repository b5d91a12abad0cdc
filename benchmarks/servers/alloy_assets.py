"""An Alloy listener with one large asset, whose content cannot be made smaller."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from benchmarks.harness.control import Commands
from benchmarks.servers.alloy import PASSWORD
from benchmarks.servers.listener import serve_listener
from connectd.net.certificates import write_certificate
from connectd.ops.process import return_large_blocks
from connectd.protocols.alloy.server import AlloyListener
from connectd.protocols.alloy.settings import AlloySettings

BLOCK = 1 << 20


def serve(reactor: Any, size: int) -> Commands:
    """Listen.

    :param size: bytes of the asset.
    """
    # As the daemon does at its start.
    return_large_blocks()
    directory = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    reactor.addSystemEventTrigger("after", "shutdown", directory.cleanup)
    certificate, assets = os.path.join(directory.name, "alloy.pem"), os.path.join(directory.name, "assets")
    write_certificate(certificate)
    os.mkdir(assets)
    with open(os.path.join(assets, "large"), "wb") as file:
        for begin in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - begin)))
    settings = AlloySettings(
        listen="udp:0:interface=127.0.0.1", certificate=certificate, password=PASSWORD, assets=assets
    )
    _, commands = serve_listener(reactor, lambda context: AlloyListener(settings, context))
    return commands
