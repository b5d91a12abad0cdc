"""Run a protocol's real client against its real server in memory, on a clock that you advance.

Nothing here opens a socket or waits for real time::

    network = Network()
    listener = network.listener(LektListener, LektSettings())
    client = LektClient(network.clock, network.endpoint(listener, host="192.0.2.7"))
    client.startService()
    network.advance(1)                  # bytes flow both ways until nobody has more to say
    network.wires[-1].cut()             # the connection breaks
    network.advance(5)                  # the client's backoff passes, and it is back

Every byte can be made to arrive on its own, or in any other pieces: ``network.segment = segments_of(1)``. A test that
speaks bytes by hand connects with :meth:`Network.raw`.
"""

from connectd.testing.datagrams import DatagramNetwork, MemoryPort
from connectd.testing.network import START, MemoryEndpoint, Network, proxy_header
from connectd.testing.peers import RawPeer, RawServer
from connectd.testing.recording import Recorder, RecordingHandler
from connectd.testing.segments import Segment, every_split, random_segments, segments_of, split_at, whole
from connectd.testing.slow import SlowChecker, SlowHandler
from connectd.testing.wire import End, Wire

__all__ = [
    "START",
    "DatagramNetwork",
    "End",
    "MemoryEndpoint",
    "MemoryPort",
    "Network",
    "RawPeer",
    "RawServer",
    "Recorder",
    "RecordingHandler",
    "Segment",
    "SlowChecker",
    "SlowHandler",
    "Wire",
    "every_split",
    "proxy_header",
    "random_segments",
    "segments_of",
    "split_at",
    "whole",
]
