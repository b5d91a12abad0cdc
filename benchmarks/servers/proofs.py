"""A listener with accounts, the toy protocol's, in front of a directory."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY

from benchmarks.harness.control import Commands
from benchmarks.loads.proofs import ACCOUNTS, PASSWORD
from benchmarks.servers.listener import LISTEN
from connectd.admission import Admission, AdmissionLimits
from connectd.directory import Database
from connectd.directory.service import DirectoryService
from connectd.events import Events
from connectd.net.listener import Context
from tests.toy import ToyListener, ToySettings


def serve(reactor: Any, cheap: bool = False) -> Commands:
    """Listen.

    :param cheap: make the hashes as cheap as they can be, so that they hide nothing else.
    """
    folder = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    path = os.path.join(folder.name, "connectd.db")
    parameters = CHEAPEST if cheap else RFC_9106_LOW_MEMORY
    with Database.open(path, parameters=parameters) as database:
        for name in ACCOUNTS:
            database.accounts.add(name, PASSWORD, by="benchmark")
    directory = DirectoryService(path, reactor=reactor, parameters=parameters)
    admission = Admission(AdmissionLimits(), clock=reactor, bans=directory.match_address)
    context = Context(reactor=reactor, admission=admission, events=Events(reactor.seconds), directory=directory)
    listener = ToyListener(ToySettings(listen=LISTEN), context)
    directory.startService()
    ready = directory.ready()
    ready.addCallback(lambda result: listener.startService())

    reactor.addSystemEventTrigger("before", "shutdown", directory.stopService)
    reactor.addSystemEventTrigger("after", "shutdown", folder.cleanup)
    return {
        "port": lambda: listener.faces[0].port,
        "outcomes": lambda: {outcome: count for (_, outcome), count in context.events.outcomes.items()},
        "accepted": lambda: context.events.accepted["toy"],
    }
