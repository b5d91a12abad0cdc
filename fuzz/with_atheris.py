"""The engine with atheris: one process for each target, since libFuzzer ends the process that it runs in."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from typing import Any

from fuzz.targets import TARGETS, load

LONGEST = 4096

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(name: str, *, seconds: float, seed: int, failures: str, corpus: str | None) -> bool:
    """Run one target in a process of its own, which writes to standard error.

    :param seed: for libFuzzer's choices.
    :param failures: the directory for an input that breaks a promise.
    :param corpus: a directory that keeps what was found to be interesting; it need not exist.
    :return: whether all promises were kept.
    """
    with tempfile.TemporaryDirectory(prefix="connectd-fuzz-") as temporary:
        seeds = os.path.join(temporary, "seeds")
        os.mkdir(seeds)
        for index, data in enumerate(load(name).seeds):
            with open(os.path.join(seeds, str(index)), "wb") as file:
                file.write(data)
        kept = os.path.join(temporary, "corpus") if corpus is None else os.path.join(corpus, name)
        os.makedirs(kept, exist_ok=True)
        options = [
            f"-max_total_time={max(1, round(seconds))}",
            f"-seed={seed}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={os.path.join(failures, f'fuzz-{name}-')}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            kept,
            seeds,
        ]
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "fuzz.with_atheris", name, *options]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode == 0


def main(name: str, options: list[str]) -> None:
    """The process of one target."""
    # Imported under a name of type Any: atheris has no types, and need not be there.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(TARGETS[name])):
        target = load(name)
    atheris.Setup([sys.argv[0], *options], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
