"""The targets by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import attrs

_ALLOY = ("connectd.protocols.alloy", "connectd.sansio")
_LEKT = ("connectd.protocols.lekt", "connectd.sansio", "connectd.wire")
_STARBOUND = ("connectd.protocols.starbound", "connectd.sansio")

_FMLTP = ("connectd.protocols.fmltp", "connectd.sansio", "connectd.wire")
_CHATR = (
    "connectd.protocols.chatr.client_machine",
    "connectd.protocols.chatr.packets",
    "connectd.protocols.chatr.server_machine",
    "connectd.protocols.chatr.side",
    "connectd.sansio",
    "connectd.wire",
)

TARGETS = {
    "alloy_packets": _ALLOY,
    "alloy_machines": _ALLOY,
    "lekt_server": _LEKT,
    "lekt_client": _LEKT,
    "lekt_conversation": _LEKT,
    "starbound_server": _STARBOUND,
    "starbound_client": _STARBOUND,
    "starbound_packets": _STARBOUND,
    "starbound_compression": _STARBOUND,
    "fmltp_server": _FMLTP,
    "fmltp_client": _FMLTP,
    "fmltp_tokens": _FMLTP,
    "fmltp_keys": _FMLTP,
    "fmltp_texts": _FMLTP,
    "chatr_server": (*_CHATR, "connectd.protocols.chatr.rendezvous"),
    "chatr_client": _CHATR,
    "chatr_registration": ("connectd.protocols.chatr.registration", "connectd.protocols.chatr.keys"),
    "chatr_stun": ("connectd.protocols.chatr.stun", "connectd.protocols.chatr.binding"),
    "chatr_puncher": (
        "connectd.protocols.chatr.puncher",
        "connectd.protocols.chatr.checks",
        "connectd.protocols.chatr.stun",
    ),
    "quic_datagrams": ("connectd.net.quic", "connectd.net.quic_private", "aioquic"),
    "proxy_header": ("connectd.net.proxy",),
}
"""For each module of this package that is one, the modules whose paths a fuzzer is to explore."""


@attrs.frozen
class Target:
    """What a target's module has.

    :param name: the module's.
    :param one_input: takes one input; raises where a promise is broken.
    :param seeds: inputs to begin with.
    """

    name: str
    one_input: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def load(name: str) -> Target:
    """Import a target."""
    module = importlib.import_module(f"fuzz.{name}")
    return Target(name, module.one_input, module.SEEDS)
