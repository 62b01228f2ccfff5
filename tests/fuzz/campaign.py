"""Runs one target to the end, or to its first finding, in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.core import CoreProgram
from tests.fuzz.corpus import load_corpus, name_of
from tests.fuzz.watch import INPUT_LIMIT_S, last_input

REPO: Final = Path(__file__).resolve().parents[2]

_LAST_LINES: Final = 30
_EXECUTED: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.M)
_CORE_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Report:
    """How a target's run went. ``corpus``: inputs that are known to reach something of their own.

    ``finding`` is the file of an input that broke something, and ``words`` say what.
    """

    target: str
    inputs: int
    seconds: float
    corpus: int
    finding: Path | None = None
    words: str = ""


def has_atheris() -> bool:
    """Whether inputs for Python code can be chosen by the coverage they reach."""
    return importlib.util.find_spec("atheris") is not None


def run_python(
    name: str,
    folder: Path,
    *,
    runs: int,
    seed: int = 1,
    guided: bool = False,
    limit_s: float = INPUT_LIMIT_S,
) -> Report:
    """Run a target of :mod:`tests.fuzz.targets`, ``guided`` by coverage or not.

    ``folder`` takes all that it leaves. An input that takes longer than ``limit_s`` is a finding.
    """
    found, watch = folder / "found", folder / "watch"
    found.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.child", name, f"--runs={runs}", f"--seed={seed}"]
    command += [f"--watch={watch}", f"--found={found}", f"--limit-s={limit_s}"]
    command += ["--guided"] if guided else []
    watch.unlink(missing_ok=True)
    began = time.monotonic()
    status, words = _run(command, folder / "log")
    seconds = time.monotonic() - began
    inputs, data = last_input(watch) if watch.is_file() else (0, b"")
    corpus = len(load_corpus(name)) + len(list(found.iterdir()))
    if status == 0:
        return Report(name, inputs, seconds, corpus)
    if status == -signal.SIGALRM:
        words = f"it took more than {limit_s:g} s"
    return Report(name, inputs, seconds, corpus, _keep(folder, name, data), words)


def replay_python(name: str, file: Path) -> int:
    """Run one input of a target, with what it says on this terminal. The exit status."""
    command = [sys.executable, "-m", "tests.fuzz.child", name, f"--replay={file.resolve()}"]
    with tempfile.NamedTemporaryFile() as watch:
        return subprocess.run([*command, f"--watch={watch.name}"], cwd=REPO, check=False).returncode


def run_core(program: CoreProgram, folder: Path, *, runs: int, seed: int = 1) -> Report:
    """Run one of the firmware core's. ``folder`` takes all that it leaves.

    ``runs`` is for a target whose inputs are quick: see ``CoreProgram.cost``.
    """
    runs = max(runs // program.cost, 1)
    found, seeds, artifacts = folder / "found", folder / "seeds", folder / "artifacts"
    for each in (seeds, artifacts):
        shutil.rmtree(each, ignore_errors=True)
    for each in (found, seeds, artifacts):
        each.mkdir(parents=True, exist_ok=True)
    kept = load_corpus(program.name)
    for data in (*kept.values(), *program.make_seeds()):
        (seeds / name_of(data)).write_bytes(data)
    command = [str(program.path), f"-runs={runs}", f"-seed={seed}", f"-max_len={_CORE_MAX_BYTES}"]
    command += [f"-timeout={INPUT_LIMIT_S:.0f}", "-print_final_stats=1"]
    command += [f"-artifact_prefix={artifacts}/", str(found), str(seeds)]
    began = time.monotonic()
    status, words = _run(command, folder / "log")
    seconds = time.monotonic() - began
    executed = _EXECUTED.search((folder / "log").read_text(errors="replace"))
    inputs = int(executed[1]) if executed else 0
    corpus = len(kept) + len(list(found.iterdir()))
    if status == 0:
        return Report(program.name, inputs, seconds, corpus)
    data = next((path.read_bytes() for path in artifacts.iterdir()), b"")
    finding = _keep(folder, program.name, data)
    return Report(program.name, inputs, seconds, corpus, finding, words)


def _run(command: list[str], log: Path) -> tuple[int, str]:
    """The status, and the last lines of what was said, which all goes to ``log``."""
    with log.open("wb") as out:
        done = subprocess.run(
            command,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return done.returncode, "\n".join(lines[-_LAST_LINES:])


def _keep(folder: Path, target: str, data: bytes) -> Path:
    path = folder.parent / f"finding-{target.replace(':', '.')}-{name_of(data)}"
    path.write_bytes(data)
    return path
