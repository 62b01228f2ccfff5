"""Fuzzing: ``python -m tests.fuzz``, which ``make fuzz`` runs.

    python -m tests.fuzz                       every target, a million inputs each
    python -m tests.fuzz update core-json      these
    python -m tests.fuzz --runs 10000 --seed 7
    python -m tests.fuzz --replay FILE update  one input, which a finding's line names
    python -m tests.fuzz --keep update         put what the last runs found into the corpus

PROPELLER_FUZZ_RUNS is another way to say --runs. Everything it leaves is in build/fuzz. A target
``module:name`` is taken from that module.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.board import build_runtime, missing_for_runtime
from tests.fuzz.campaign import REPO, Report, has_atheris, replay_python, run_core, run_python
from tests.fuzz.core import build_core, core_sources_by_name, find_fuzzer
from tests.fuzz.keep import keep_core, keep_python
from tests.fuzz.targets import TARGETS
from tests.fuzz.wasm_runs import BOARD_VARIABLE, ON_RUNTIMES

_FOLDER: Final = REPO / "build" / "fuzz"
_RUNS: Final = 1_000_000


def main() -> int:
    words = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz", description=__doc__, formatter_class=words
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    runs = int(os.environ.get("PROPELLER_FUZZ_RUNS") or _RUNS)
    parser.add_argument("--runs", type=int, default=runs, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="for all that it leaves")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true", help="the targets' names")
    options = parser.parse_args()
    known = [*TARGETS, *core_sources_by_name()]
    if options.list:
        print("\n".join(known))
        return 0
    unknown = {name for name in options.targets if ":" not in name}.difference(known)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; --list has them all")
    bench = _Bench(options.targets or known, options.folder)
    if options.replay is not None:
        if len(options.targets) != 1:
            parser.error("--replay needs the one target that FILE is for")
        return bench.replay(options.targets[0], options.replay)
    if options.keep:
        bench.keep()
        return 0
    return _tell(list(bench.run(options.runs, options.seed)))


class _Bench:
    """The targets that were asked for, those of them that this machine can run."""

    def __init__(self, names: list[str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        core = [name for name in names if name in core_sources_by_name()]
        self._python = [name for name in names if name not in core]
        self._programs = []
        if core:
            compiler, lacking = find_fuzzer(folder)
            if compiler is None:
                print(f"the firmware core is left out: {lacking}")
            else:
                self._programs = build_core(compiler, folder / "programs", core)
        if any(name in ON_RUNTIMES for name in names):
            lacking = missing_for_runtime()
            if lacking:
                print(f"modules run on Wasmtime alone: {lacking}")
            else:
                os.environ[BOARD_VARIABLE] = str(build_runtime())

    def run(self, runs: int, seed: int) -> Iterator[Report]:
        guided = has_atheris()
        if self._python and not guided:
            print("atheris is not installed: inputs for Python code are not guided by coverage")
        for name in self._python:
            yield _said(
                run_python(
                    name,
                    self._folder / name,
                    runs=runs,
                    seed=seed,
                    guided=guided and name not in ON_RUNTIMES,
                )
            )
        for program in self._programs:
            yield _said(run_core(program, self._folder / program.name, runs=runs, seed=seed))

    def replay(self, name: str, file: Path) -> int:
        if name in self._python:
            return replay_python(name, file)
        return os.spawnl(os.P_WAIT, self._programs[0].path, name, str(file))

    def keep(self) -> None:
        for name in self._python:
            print(keep_python(name, self._folder / name))
        for program in self._programs:
            print(keep_core(program, self._folder / program.name))


def _said(report: Report) -> Report:
    """Print it at once: a million inputs take a while."""
    verdict = f"FINDING {report.finding}" if report.finding else "ok"
    print(
        f"{report.target:20} {report.inputs:>10,} inputs {report.seconds:>8.1f} s  {verdict}",
        flush=True,
    )
    return report


def _tell(reports: list[Report]) -> int:
    """The table, and what to do about each finding. The exit status."""
    found = [report for report in reports if report.finding is not None]
    print(f"\n{'target':20} {'inputs':>12} {'seconds':>9} {'corpus':>7} {'findings':>9}")
    for report in reports:
        print(
            f"{report.target:20} {report.inputs:>12,} {report.seconds:>9.1f} {report.corpus:>7,}"
            f" {int(report.finding is not None):>9}"
        )
    for report in found:
        print(f"\n{report.target}:\n{report.words}")
        print(f"again: {sys.executable} -m tests.fuzz --replay {report.finding} {report.target}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
