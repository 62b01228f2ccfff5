"""Takes into the corpus what a run found, as few and as small inputs as reach the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import propeller_fl
from tests.fuzz.core import CoreProgram
from tests.fuzz.corpus import load_corpus, name_of, save_corpus
from tests.fuzz.target import Target, find_target

_MAX_KEPT_BYTES: Final = 2_048  # a larger one says nothing that it could not say shorter
_PACKAGE: Final = str(Path(propeller_fl.__file__).parent)


def keep_python(name: str, folder: Path) -> str:
    """Of a target of Python code: those that reach a line, or an answer, of their own."""
    target = find_target(name)
    reached: set[Hashable] = set()
    kept = _named(name)
    for data in (*target.make_seeds(), *kept.values()):
        reached |= _reached(target, data)
    for data in _candidates(name, folder / "found"):
        new = _reached(target, data) - reached
        if new:
            reached |= new
            kept[name_of(data)] = data
    return _saved(name, kept)


def keep_core(program: CoreProgram, folder: Path) -> str:
    """Of a program: what libFuzzer's own merge leaves, for each edge one."""
    given, merged = folder / "given", folder / "merged"
    for each in (given, merged):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    kept = _named(program.name)
    for data in (*kept.values(), *program.make_seeds()):
        (given / name_of(data)).write_bytes(data)
    for data in _candidates(program.name, folder / "found"):
        (given / name_of(data)).write_bytes(data)
    subprocess.run(
        [program.path, "-merge=1", "-use_counters=0", merged, given],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    seeds = set(program.make_seeds())
    for path in merged.iterdir():
        data = path.read_bytes()
        if data not in seeds and data not in kept.values():
            kept[name_of(data)] = data
    return _saved(program.name, kept)


def _named(target: str) -> dict[str, bytes]:
    """Those with a name of words, which stay whatever they reach."""
    return {name: data for name, data in load_corpus(target).items() if name != name_of(data)}


def _candidates(target: str, found: Path) -> Iterable[bytes]:
    """The small ones first: they are kept, and the larger ones then reach nothing new."""
    files = found.iterdir() if found.is_dir() else ()
    inputs = {*load_corpus(target).values(), *(path.read_bytes() for path in files)}
    return sorted(
        (data for data in inputs if len(data) <= _MAX_KEPT_BYTES),
        key=lambda data: (len(data), data),
    )


def _saved(target: str, kept: dict[str, bytes]) -> str:
    path = save_corpus(target, kept)
    return f"{target}: {len(kept)} inputs, {path.stat().st_size:,} bytes"


def _reached(target: Target, data: bytes) -> set[Hashable]:
    """The lines of this package that an input runs through, and its answer."""
    lines: set[Hashable] = set()

    def trace(frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            return trace
        return trace if frame.f_code.co_filename.startswith(_PACKAGE) else None

    threading.settrace(trace)  # a module runs in a thread of the runtime's
    sys.settrace(trace)
    try:
        lines.add(("answer", target.check(data)))
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return lines
