"""Every key of a LEKT listener and of a LEKT client."""

from __future__ import annotations

import attrs

from connectd.settings import ListenerSettings, at_least, between, key


@attrs.frozen(kw_only=True)
class LektSettings(ListenerSettings):
    """What a LEKT listener can be told."""

    listen: str = key(
        "tcp:7890:interface=127.0.0.1",
        "Where to accept connections: tcp:PORT[:interface=ADDRESS], unix:PATH or systemd:name=NAME.",
    )
    heartbeat_period: float = key(
        10.0,
        "How often clients are expected to send a heartbeat (LEKT-12).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    silent_periods: float = key(
        3.0,
        "A client from which nothing came for so many periods is dropped and listed as gone (LEKT-12).",
        check=between(1, 100),
    )
    heartbeat_limit: int = key(
        20, "More heartbeats than this within 5 seconds end the session (LEKT-12).", check=at_least(1)
    )
    resync_interval: float = key(
        60.0,
        "A client that asks for the whole list twice within this time is ended (LEKT-11).",
        unit="seconds",
        check=at_least(0),
    )


@attrs.frozen(kw_only=True)
class LektClientSettings:
    """What a LEKT client can be told; also the options of a ``lekt://`` URL's query."""

    port: int = key(
        0,
        "The TCP port on which this client takes direct connections, announced to the others; 0 announces none.",
        check=between(0, 65535),
    )
    heartbeat_period: float = key(
        10.0, "How often to send a heartbeat (LEKT-12).", unit="seconds", check=between(0.1, 3600)
    )
    handshake_timeout: float = key(
        30.0, "The time from connecting to the end of setup.", unit="seconds", check=between(0.1, 3600)
    )
    silent_periods: float = key(
        3.0, "A server that answers nothing for so many periods is given up.", check=between(1, 100)
    )
    maximum_clients: int = key(1_000_000, "More listed clients than this are not believed (COM-2).", check=at_least(1))
