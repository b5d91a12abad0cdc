"""The front door for networked games and peer-to-peer programs: one daemon, one library, both sides."""

from __future__ import annotations

__version__ = "0.1.0"
