"""``python -m fuzz [TARGET …] [--seconds N]``: look for inputs that break a promise; exit status 1 if one does."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence

from fuzz import pseudo_random, with_atheris
from fuzz.targets import TARGETS, load

SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; every target unless it names some.

    :return: 1 where a promise was broken, else 0.
    """
    options = _options(arguments)
    if options.replay is not None:
        with open(options.replay, "rb") as file:
            load(options.targets[0]).one_input(file.read())
        print(f"{options.targets[0]}: {options.replay} breaks nothing")
        return 0
    by_chance = options.pseudo_random
    if not by_chance and not with_atheris.available():
        by_chance = True
        print("atheris is not installed (pip install atheris): inputs are made by chance, blind to what they reach")
    os.makedirs(options.failures, exist_ok=True)
    kept = [_by_chance(name, options) if by_chance else _with_atheris(name, options) for name in options.targets]
    return 0 if all(kept) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Look for inputs that break a promise.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all unless named: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help=f"for each target ({SECONDS:g})")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="other inputs for another number (1)")
    parser.add_argument(
        "--failures", default=".", metavar="DIRECTORY", help="where an input goes that breaks a promise"
    )
    parser.add_argument("--corpus", metavar="DIRECTORY", help="where atheris keeps inputs from one run to the next")
    parser.add_argument("--pseudo-random", action="store_true", help="do without atheris")
    parser.add_argument("--replay", metavar="FILE", help="give one target this input, and nothing else")
    options = parser.parse_args(arguments)
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f'there is no target "{name}"; known: {", ".join(TARGETS)}')
    if options.replay is not None and len(options.targets) != 1:
        parser.error("--replay needs the name of the one target that the file is for")
    options.targets = options.targets or list(TARGETS)
    return options


def _by_chance(name: str, options: argparse.Namespace) -> bool:
    count, broken, how = pseudo_random.fuzz(load(name), seconds=options.seconds, seed=options.seed)
    if broken is None:
        print(f"{name}: {count} inputs, nothing broken (seed {options.seed})", flush=True)
        return True
    path = os.path.join(options.failures, f"fuzz-{name}-crash-{hashlib.sha1(broken).hexdigest()}")
    with open(path, "wb") as file:
        file.write(broken)
    print(f"{how}{name}: input {count} breaks a promise; it is in {path}", flush=True)
    return False


def _with_atheris(name: str, options: argparse.Namespace) -> bool:
    kept = with_atheris.fuzz(
        name, seconds=options.seconds, seed=options.seed, failures=options.failures, corpus=options.corpus
    )
    print(f"{name}: {'nothing broken' if kept else 'a promise is broken, see above'}", flush=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
