"""Building the firmware with ``west build``."""

from __future__ import annotations

import fcntl
import logging
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.firmware._boards import BoardKind, BoardSpec, repository
from propeller_fl.firmware._workspace import GET_WORKSPACE, Missing, Workspace, find_workspace
from propeller_fl.firmware._workspace import missing as missing_for

_log = logging.getLogger(__name__)

_BUILD_TIMEOUT_S: Final = 1200.0
_LAST_LINES: Final = 25


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """A firmware that has been built."""

    board: BoardSpec
    build_dir: Path

    @property
    def program(self) -> Path:
        """What this machine or its emulator runs: zephyr.exe or zephyr.elf."""
        name = "zephyr.exe" if self.board.kind is BoardKind.NATIVE else "zephyr.elf"
        return self.build_dir / "zephyr" / name

    def option(self, name: str) -> str:
        """What it was built with for a Kconfig option, such as CONFIG_FL_MODEL_BYTES_MAX: texts
        without quotes, and nothing for one that is not set."""
        config = self.build_dir / "zephyr" / ".config"
        for line in config.read_text(encoding="utf-8").splitlines():
            key, equals, value = line.partition("=")
            if equals and key == name:
                return value.strip('"')
        return ""


def missing_for_board(board: BoardSpec) -> list[Missing]:
    """What this machine lacks to build ``board``'s firmware, and to run it if it is simulated."""
    native = board.kind is BoardKind.NATIVE
    qemu = board.qemu.program if board.qemu else ""
    return missing_for(native=native, qemu=qemu, cross=not native)


def build_firmware(
    board: BoardSpec,
    *,
    workspace: Workspace | None = None,
    variant: str = "",
    options: Mapping[str, str] | None = None,
    build_root: Path | None = None,
) -> FirmwareImage:
    """Build, or bring up to date, the firmware for ``board``; takes a minute or more when cold.

    ``options`` are Kconfig options (``{"CONFIG_FL_HEARTBEAT_S": "5"}``) on top of the board's own,
    or whatever else Zephyr's build takes (``{"EXTRA_CONF_FILE": "overlay-tls.conf"}``), and
    ``variant`` names the build that has them, so that it gets a folder of its own. Everything is
    under ``build_root`` (the repository's build/firmware), with the build's output in
    ``<target>[-<variant>].log``.

    Raises ``ConfigError`` where firmware cannot be built, ``RequestError`` when the build fails.
    """
    workspace = workspace or find_workspace()
    if workspace is None:
        lacking = "; ".join(map(str, missing_for_board(board)))
        raise ConfigError(f"firmware cannot be built here: {lacking}", hint=GET_WORKSPACE)
    root = repository()
    name = f"{board.target}-{variant}" if variant else board.target
    build_root = build_root or root / "build" / "firmware"
    build_root.mkdir(parents=True, exist_ok=True)
    image = FirmwareImage(board, build_root / name)
    command = [str(workspace.west), "build", "-p", "auto", "-b", board.zephyr_board]
    command += ["-d", str(image.build_dir), str(root / "firmware"), "--"]
    command += [f"-D{key}={value}" for key, value in (options or {}).items()]
    with (build_root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the demo and a test session may both want it
        _run(command, workspace, name, build_root / f"{name}.log")
    if not image.program.is_file():
        raise RequestError(f"building {name} left no {image.program}")
    return image


def _run(command: list[str], workspace: Workspace, name: str, log: Path) -> None:
    _log.info("firmware is being built", extra={"build": name, "log": str(log)})
    with log.open("wb") as out:
        try:
            status = subprocess.run(
                command,
                cwd=workspace.topdir,
                env=workspace.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=_BUILD_TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise RequestError(
                f"building {name} took over {_BUILD_TIMEOUT_S:g} s, see {log}"
            ) from None
    if status != 0:
        raise RequestError(f"building {name} failed with status {status}, see {log}\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])
