"""Two listeners and a handler of one's own, composed in Python: twistd -ny etc/connectd.tac

Everything that a configuration file says can be said here, and handlers and services can be put beside it. For a
configuration file, use twistd connectd --config FILE instead.
"""

from twisted.application.service import Application
from twisted.logger import Logger
from zope.interface import implementer

from connectd.admission import AdmissionLimits
from connectd.config import DaemonSettings
from connectd.interfaces import IHandler, IReceiver
from connectd.ops.daemon import Daemon
from connectd.protocols.lekt.settings import LektSettings

log = Logger(namespace="doorman")


@implementer(IHandler, IReceiver)
class Doorman:
    """Says who comes, and sends away who has no port that others could connect to."""

    def wants(self, protocol):
        return ()  # nothing beyond what the protocol hands on by itself

    def open(self, session):
        log.info("{peer} came to {listener}", peer=session.peer, listener=session.listener)
        if not session.identity:
            session.kick("Come back with a port")
        return self  # takes this session's messages, as its IReceiver

    def received(self, message):
        log.info("a message: {message}", message=message)

    def closed(self, outcome):
        log.info("somebody went: {outcome}", outcome=outcome.value)


daemon = Daemon.from_settings(
    [
        # The class of the settings tells the protocol; every key of the documentation can be set.
        LektSettings(listen="tcp:7890:interface=127.0.0.1"),
        LektSettings(listen="tcp:7891:interface=127.0.0.1", handler="doorman", heartbeat_period=5.0),
    ],
    handlers={"doorman": Doorman()},
    daemon=DaemonSettings(state_dir="", admin="", status="tcp:8025:interface=127.0.0.1"),
    admission=AdmissionLimits(connections_per_source=8),
)

application = Application("connectd")
daemon.setServiceParent(application)
