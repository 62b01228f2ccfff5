"""A C compiler on this machine, with what it can do, and the portable core built by it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
LIB = REPO / "firmware" / "lib"
FIXTURES = REPO / "tests" / "fixtures" / "messages"

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion")
_SANITIZERS = ("address,undefined", "undefined")
_BUILD_TIMEOUT_S = 100.0


def core_sources() -> list[Path]:
    """The core's own sources, without tests and fuzz targets."""
    return sorted(LIB.glob("*/*.c"))


def include_flags() -> list[str]:
    """Where the core's public headers are found, and those of its tests."""
    return [f"-I{folder}" for folder in sorted(LIB.glob("*/include"))]


def run(command: Sequence[str | Path], cwd: Path, timeout_s: float = _BUILD_TIMEOUT_S) -> str:
    """Run ``command``; return its output, or fail with it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join(str(part) for part in command)
        raise AssertionError(f"status {done.returncode} of: {words}\n{done.stdout[-8000:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Compiler:
    """``command`` compiles C; ``flags`` are the warnings and the sanitizers it supports."""

    command: tuple[str, ...]
    flags: tuple[str, ...]

    def build(self, out: Path, sources: Sequence[Path], extra: Sequence[str] = ()) -> None:
        """Compile and link ``sources`` into the program ``out``."""
        run([*self.command, *self.flags, *extra, *sources, "-o", out], cwd=out.parent)

    def compile(self, out_dir: Path, sources: Sequence[Path], extra: Sequence[str] = ()) -> None:
        """Compile ``sources`` into objects in ``out_dir``."""
        run([*self.command, *self.flags, *extra, "-c", *sources], cwd=out_dir)


def find_compiler(scratch: Path) -> Compiler | None:
    """The first C compiler of this machine that makes a running program, or ``None``."""
    candidates: list[tuple[str, ...]] = [
        (found,) for name in ("cc", "clang", "gcc") if (found := shutil.which(name))
    ]
    if find_spec("ziglang") is not None:
        candidates.append((sys.executable, "-m", "ziglang", "cc"))
    for command in candidates:
        compiler = _probe(command, scratch)
        if compiler is not None:
            return compiler
    return None


def _probe(command: tuple[str, ...], scratch: Path) -> Compiler | None:
    source = scratch / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    for sanitizer in (*_SANITIZERS, None):
        checks = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all") if sanitizer else ()
        compiler = Compiler(command, ("-O1", "-g", *WARNINGS, *checks))
        try:
            compiler.build(scratch / "probe", [source])
            run([scratch / "probe"], cwd=scratch)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            continue
        return compiler
    return None
