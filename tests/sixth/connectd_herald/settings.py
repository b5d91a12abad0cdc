"""Every key of a HERALD listener and of a HERALD client."""

from __future__ import annotations

import attrs

from connectd.settings import ListenerSettings, between, key


@attrs.frozen(kw_only=True)
class HeraldSettings(ListenerSettings):
    """What a listener can be told: keys of the configuration, and options of ``twistd herald``."""

    listen: str = key("tcp:7999:interface=127.0.0.1", "Where to accept connections.")
    greeting: str = key("Hear, hear!", "What the herald says to whoever comes in.")
    longest_line: int = key(1024, "A peer that sends a longer line is ended.", unit="bytes", check=between(64, 65536))
    reserved_names: tuple[str, ...] = key(("herald",), "Names under which nobody may come in.")


@attrs.frozen(kw_only=True)
class HeraldClientSettings:
    """What a client can be told: the options of a ``herald://`` URL's query."""

    name: str = key("visitor", "What to be called.")
    handshake_timeout: float = key(30.0, "The time from connecting to the welcome.", unit="seconds")
