"""The process that runs one target's inputs: ``python -m tests.fuzz.child NAME …``.

It ends with status 0 when all were run, and otherwise when there is a finding, which is the last
input that :mod:`tests.fuzz.watch` has seen.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any, Final

from tests.fuzz.corpus import load_corpus, name_of
from tests.fuzz.loop import fuzz
from tests.fuzz.target import MAX_INPUT_BYTES, Target, find_target
from tests.fuzz.watch import INPUT_LIMIT_S, Watch

FINDING: Final = 77
"""Exit status after a promise that was not kept."""

_FREE_SHARE: Final = 0.3  # of a guided run's changes that are left to libFuzzer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.child", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="run the one input in this file")
    parser.add_argument("--watch", type=Path, required=True, help="file for the input under way")
    parser.add_argument("--limit-s", type=float, default=INPUT_LIMIT_S, help="for one input")
    parser.add_argument("--found", type=Path, help="folder for inputs worth keeping")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of readers, about what they read
    if options.guided:
        _run_guided(options)
    target = find_target(options.name)
    with Watch(target, options.watch, options.limit_s) as watch:
        try:
            _run(options, target, watch)
        except BaseException:
            _give_up()


def _run(options: argparse.Namespace, target: Target, watch: Watch) -> None:
    if options.replay is not None:
        print(watch.run(options.replay.read_bytes()))
        return
    known = _known(target, options.found)
    found = fuzz(target, watch, known, runs=options.runs, seed=options.seed)
    if options.found is not None:
        for data in found:
            (options.found / name_of(data)).write_bytes(data)


def _known(target: Target, found: Path | None) -> list[bytes]:
    earlier = sorted(found.iterdir()) if found is not None else []
    known = [*target.make_seeds(), *load_corpus(target.name).values()]
    return list(dict.fromkeys([*known, *(path.read_bytes() for path in earlier)]))


def _run_guided(options: argparse.Namespace) -> None:
    """Let atheris choose the inputs; it ends the process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["propeller_fl"]):
        target = find_target(options.name)
    watch = Watch(target, options.watch, options.limit_s)
    known = _known(target, None)

    def check(data: bytes) -> None:
        try:
            watch.run(data[:MAX_INPUT_BYTES])
        except BaseException:
            _give_up()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < _FREE_SHARE:
            changed: bytes = atheris.Mutate(data, max_size)
        else:
            changed = target.mutate(rng, data, rng.choice(known or [data]))
        return changed[:max_size]

    with tempfile.TemporaryDirectory() as scratch:
        seeds = Path(scratch, "seeds")
        seeds.mkdir()
        for data in known:
            (seeds / name_of(data)).write_bytes(data)
        flags = [f"-runs={options.runs}", f"-seed={options.seed}", f"-max_len={MAX_INPUT_BYTES}"]
        flags += ["-len_control=0", "-timeout=0", "-rss_limit_mb=0", f"-artifact_prefix={scratch}/"]
        folders = [str(options.found)] if options.found is not None else []
        atheris.Setup([sys.argv[0], *flags, *folders, str(seeds)], check, custom_mutator=mutate)
        atheris.Fuzz()
    raise AssertionError("atheris ends the process")


def _give_up() -> None:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(FINDING)


if __name__ == "__main__":
    main()
