"""What every listener that speaks over QUIC can be told."""

from __future__ import annotations

import attrs

from connectd.settings import ListenerSettings, between, key

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024


def _proxy_problem(on: bool) -> str | None:
    return "PROXY headers are for streams, and this listener speaks over UDP: leave it out" if on else None


def place_problem(place: str) -> str | None:
    """What is wrong with where a listener that speaks over QUIC is to listen, as far as the protocol knows."""
    fits = not place or place.startswith(("udp:", "systemd:"))
    return None if fits else f'"{place}" is no datagram socket: write udp:PORT or systemd:name=NAME'


@attrs.frozen(kw_only=True)
class QuicListenerSettings(ListenerSettings):
    """The settings of a listener that speaks over QUIC. A protocol's own class inherits from it."""

    listen: str = key(
        "",
        "Where to accept connections: udp:PORT[:interface=ADDRESS] or systemd:name=NAME.",
        check=place_problem,
        example='"udp:5520:interface=127.0.0.1"',
    )
    proxy_protocol: bool = key(
        False,
        "Not for this listener: PROXY headers are for streams (COM-5).",
        check=_proxy_problem,
    )
    idle_timeout: float = key(
        60.0,
        "The silence after which a QUIC connection is over, without a word.",
        unit="seconds",
        check=between(1, 3600),
    )
    retry_threshold: int = key(
        256,
        "So many connections whose address is not validated are taken as they come; beyond that a newcomer first has "
        "to show, by coming back with a token, that its address is its own (Retry). 0 = always.",
        check=between(0, 1_000_000),
    )
    receive_window: int = key(
        64 * KIBIBYTE,
        "What a peer may send before it is read (flow control).",
        unit="bytes",
        check=between(4 * KIBIBYTE, 64 * MEBIBYTE),
    )
    send_window: int = key(
        MEBIBYTE,
        "What may be on its way to one peer without being acknowledged.",
        unit="bytes",
        check=between(16 * KIBIBYTE, 64 * MEBIBYTE),
    )
    max_datagram_size: int = key(
        1200,
        "The largest datagrams that are sent. 1200 passes everywhere; more is faster where the whole way to the peers "
        "lets it pass.",
        unit="bytes",
        check=between(1200, 65_527),
    )
