"""The servers that are compared."""

from __future__ import annotations

from benchmarks.harness.cost import Place

BARE = Place("benchmarks.servers.bare:serve", "benchmarks.loads.bare:load")
LEKT = Place("benchmarks.servers.lekt:serve", "benchmarks.loads.lekt:load")
