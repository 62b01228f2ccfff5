"""Builds the firmware's runtime for native_sim, where there is a Zephyr workspace."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import Final

from propeller_fl.firmware import find_workspace, missing, repository

_BUILD_TIMEOUT_S: Final = 900.0
_FOLDER: Final = Path("build", "fuzz", "board")


def missing_for_runtime() -> str:
    """What keeps it from being built here, in one line; empty when nothing does."""
    return "; ".join(map(str, missing(native=True)))


def build_runtime() -> Path:
    """Build it, or bring it up to date, and return the program. Raises ``AssertionError``."""
    workspace = find_workspace()
    assert workspace is not None, "missing_for_runtime() says why"
    root = repository()
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(workspace.west), "build", "-p", "auto", "-b", "native_sim/native/64"]
    command += ["-d", str(folder / "zephyr"), str(root / "firmware" / "tests" / "wasm_fuzz")]
    with (folder / "lock").open("w") as lock, (folder / "log").open("wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        done = subprocess.run(
            command,
            cwd=workspace.topdir,
            env=workspace.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"the build failed, see {folder / 'log'}"
    return folder / "zephyr" / "zephyr" / "zephyr.exe"
