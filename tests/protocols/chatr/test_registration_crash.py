"""CH-22: an acknowledged registration survives SIGKILL of the daemon at any moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.ops.composed import folder

ROUNDS = 52


class CrashTests(SynchronousTestCase):
    def test_killed(self) -> None:
        """CH-22: a daemon that is killed 52 times while three clients register and replace keys: none is lost."""
        place = folder(self)
        seed = random.randrange(2**32)
        loop = subprocess.run(
            [sys.executable, "-m", "tests.protocols.chatr.crash_loop", str(place), str(ROUNDS), str(seed)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.assertEqual(loop.returncode, 0, f"seed {seed}: {loop.stderr[-4000:]}")
        count = json.loads(loop.stdout)
        self.assertEqual(count["rounds"], ROUNDS)
        # The kills hit the middle of things, and a good deal was done between them.
        self.assertGreater(count["acknowledged"], ROUNDS)
        self.assertGreater(count["under_way"], ROUNDS)
