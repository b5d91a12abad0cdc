"""What an operator can set about admission: the ``[admission]`` table."""

from __future__ import annotations

import attrs

from connectd.settings import Network, at_least, between, key


def _burst_problem(value: float | None) -> str | None:
    if value is None or value == 0 or value >= 1:
        return None
    return f"{value} admits nobody: at least 1, or 0 for no limit"


@attrs.frozen(kw_only=True)
class AdmissionLimits:
    """Limits before the first byte (COM-4) and on failed proofs (COM-11). 0 is no limit everywhere."""

    max_connections: int = key(
        20000, "How many connections the whole daemon holds at once; 0 = no limit (COM-4).", check=at_least(0)
    )
    connections_per_source: int = key(
        64, "How many connections one source may have open at once; 0 = no limit (COM-4).", check=at_least(0)
    )
    connection_rate: float = key(
        20.0,
        "How many new connections one source may make in the long run; 0 = no limit (COM-4).",
        unit="per second and source",
        check=at_least(0),
    )
    connection_burst: float | None = key(
        None,
        "How many new connections one source may make at once after a quiet time; unset = twice "
        "connection_rate, at least 1; 0 = no limit (COM-4).",
        check=_burst_problem,
        example="40",
    )
    failures_per_source: int = key(
        20,
        "How many wrong proofs (passwords, signatures, tokens) in 10 minutes shut a source out for "
        "10 minutes, except for accounts that logged in from there in the last 24 hours; 0 = never (COM-11).",
        check=at_least(0),
    )
    allow: tuple[Network, ...] = key(
        (), "Where given, only these networks may connect (COM-4).", example='["10.0.0.0/8"]'
    )
    deny: tuple[Network, ...] = key(
        (),
        "Addresses of these networks may not connect, allowed or not (COM-4).",
        example='["192.0.2.0/24", "2001:db8::/32"]',
    )
    ipv4_prefix: int = key(
        32, "IPv4 addresses that share so many leading bits are one source (COM-4).", check=between(1, 32)
    )
    ipv6_prefix: int = key(
        64, "IPv6 addresses that share so many leading bits are one source (COM-4).", check=between(1, 128)
    )

    @property
    def burst(self) -> float:
        """``connection_burst``, or what stands for it when it is unset."""
        return max(1.0, 2 * self.connection_rate) if self.connection_burst is None else self.connection_burst
