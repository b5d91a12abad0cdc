"""The sixth protocol (``tests/sixth``) without its distribution being installed: its modules, but none of its plugins."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

SIXTH = Path(__file__).parent / "sixth"


def _make_importable(name: str) -> None:
    """Its folder on the path would let all tests of this process find its plugins."""
    folder = SIXTH / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_make_importable("connectd_herald")

from connectd_herald.client import HeraldDialogue  # noqa: E402
from connectd_herald.machine import ClientMachine, Cry, ServerMachine  # noqa: E402
from connectd_herald.plugin import HeraldPlugin  # noqa: E402
from connectd_herald.server import HeraldListener  # noqa: E402
from connectd_herald.settings import HeraldClientSettings, HeraldSettings  # noqa: E402
from connectd_herald.square import Crier, Doorbell  # noqa: E402

__all__ = [
    "SIXTH",
    "ClientMachine",
    "Crier",
    "Cry",
    "Doorbell",
    "HeraldClientSettings",
    "HeraldDialogue",
    "HeraldListener",
    "HeraldPlugin",
    "HeraldSettings",
    "ServerMachine",
]
