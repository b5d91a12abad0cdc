"""How the documentation is built: ``make docs``, or ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import re
from pathlib import Path

_SOURCE = Path(__file__).parent.parent / "connectd" / "__init__.py"
_VERSION = re.search(r'^__version__ = "([^"]+)"', _SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
assert _VERSION is not None

project = "connectd"
author = "The connectd authors"
copyright = author  # noqa: A001 - Sphinx calls it so
release = version = _VERSION[1]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = f"connectd {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
