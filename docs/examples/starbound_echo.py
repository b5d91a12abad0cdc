"""A Starbound server on which players talk to themselves: twistd -ny starbound_echo.py

It lets everybody in, in retail 1.4 and in the generation of the protocol's document, and answers each line of chat with
the same line. What the packets of chat look like is known of these two; it is the game's, and not connectd's affair.
"""

import struct

from twisted.application.service import Application
from zope.interface import implementer

from connectd.interfaces import IHandler, IReceiver
from connectd.ops.daemon import Daemon
from connectd.protocols.starbound.encoding import encode_bytes, read_vlq
from connectd.protocols.starbound.machine import Frame
from connectd.protocols.starbound.settings import StarboundSettings

CHAT_SEND = {"seed": 10, "1.4": 18}
CHAT_RECEIVE = {"seed": 4, "1.4": 6}


@implementer(IHandler)
class Echo:
    def wants(self, protocol):
        return ()

    def open(self, session):
        return Echoing(session)


@implementer(IReceiver)
class Echoing:
    def __init__(self, session):
        self.session = session
        self.generation = session.identity["generation"]

    def received(self, frame):
        if frame.id == CHAT_SEND[self.generation]:
            length, start = read_vlq(frame.payload, 0)
            self.say(frame.payload[start : start + length])

    def say(self, text):
        """Text of chat, from nobody in particular."""
        if self.generation == "1.4":
            # Mode, channel, connection, nickname, portrait.
            head = b"\x00" + encode_bytes(b"") + struct.pack(">H", 0) + encode_bytes(b"echo") + encode_bytes(b"")
        else:
            # Channel, world, client, nickname.
            head = b"\x00" + encode_bytes(b"") + struct.pack(">I", 0) + encode_bytes(b"echo")
        self.session.send(Frame(CHAT_RECEIVE[self.generation], head + encode_bytes(text)))

    def closed(self, outcome):
        pass


application = Application("echo")
settings = StarboundSettings(
    listen="tcp:21025:interface=127.0.0.1", generation=("seed", "1.4"), anonymous=True, handler="echo"
)
Daemon.from_settings([settings], handlers={"echo": Echo()}).setServiceParent(application)
