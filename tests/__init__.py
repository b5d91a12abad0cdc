"""The test suite. Properties try the same examples at each run where CI is set, and new ones elsewhere."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Programs that a shell starts in the background ignore it, and so would those that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
