"""CH-22: what was acknowledged survives SIGKILL at any moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.directory.opened import Place

ROUNDS = 200


class CrashTests(SynchronousTestCase):
    def test_killed(self) -> None:
        """CH-22: killed 200 times while accounts, bans and keys are added, changed and removed, while the sealing key is
        rotated and while the database is made: it always opens, and every acknowledged change is there.
        """
        place = Place(self)
        seed = random.randrange(2**32)
        loop = subprocess.run(
            [sys.executable, "-m", "tests.directory.crash_loop", place.folder, str(ROUNDS), str(seed)],
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
        self.assertGreater(count["under_way_dropped"] + count["under_way_kept"], ROUNDS // 4)
