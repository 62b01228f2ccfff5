"""The Zephyr workspace: where it is, and what is missing when firmware cannot be built.

It is looked for the way Zephyr does: ``ZEPHYR_BASE``, then the west workspace around the current
directory or these sources, then CMake's package registry.
"""

from __future__ import annotations

import configparser
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_REGISTRY: Final = Path(".cmake", "packages", "Zephyr")
_WAMR: Final = Path("modules", "lib", "wasm-micro-runtime")  # its path in firmware/west.yml
_VERSION_LINE: Final = re.compile(r"^(VERSION_MAJOR|VERSION_MINOR|PATCHLEVEL)\s*=\s*(\d+)", re.M)
_PROBE_TIMEOUT_S: Final = 30.0
_CROSS_COMPILER: Final = "arm-none-eabi-gcc"

GET_WORKSPACE: Final = (
    "west init -m <this repository> --mf firmware/west.yml fl && cd fl && west update; "
    "an existing workspace is found by ZEPHYR_BASE"
)


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that building firmware needs and this machine does not have."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A west workspace with Zephyr and WAMR in it, and the ``west`` that can build there."""

    zephyr_base: Path
    topdir: Path
    version: str  # of Zephyr, such as "4.2.0"
    west: Path

    def environment(self) -> dict[str, str]:
        """The environment in which ``west`` is run: ours, with this workspace chosen.

        Without a toolchain of the caller's choice and without the Zephyr SDK, the bare-metal Arm
        compiler on PATH is taken, or else the host's own.
        """
        environment = dict(os.environ)
        environment["ZEPHYR_BASE"] = str(self.zephyr_base)
        environment["PATH"] = f"{self.west.parent}{os.pathsep}{environment.get('PATH', '')}"
        if "ZEPHYR_TOOLCHAIN_VARIANT" not in environment and not _has_sdk():
            compiler = shutil.which(_CROSS_COMPILER)
            environment["ZEPHYR_TOOLCHAIN_VARIANT"] = "gnuarmemb" if compiler else "host"
            if compiler:
                environment["GNUARMEMB_TOOLCHAIN_PATH"] = str(Path(compiler).resolve().parents[1])
        return environment


def find_workspace(environ: Mapping[str, str] | None = None) -> Workspace | None:
    """The workspace to build firmware in, or ``None``: then :func:`missing` says why not.

    ``environ`` replaces the process's environment in the search (ZEPHYR_BASE, HOME, PATH).
    """
    environ = os.environ if environ is None else environ
    base = _find_zephyr(environ)
    topdir = _topdir_above(base) if base else None
    if base is None or topdir is None or not (topdir / _WAMR).is_dir():
        return None
    west = _find_west(topdir, environ)
    if west is None:
        return None
    return Workspace(base, topdir, _version(base), west)


def missing(*, native: bool = False, qemu: str = "", cross: bool = False) -> list[Missing]:
    """What stands in the way of building firmware; empty when nothing does.

    ``native``, ``qemu`` (the emulator's program) and ``cross`` ask for what such boards need
    besides the workspace: a host compiler, the emulator, a cross compiler.
    """
    return [*_missing_workspace(os.environ), *_missing_tools(native, qemu, cross)]


def _missing_workspace(environ: Mapping[str, str]) -> Iterator[Missing]:
    base = _find_zephyr(environ)
    if base is None:
        given = environ.get("ZEPHYR_BASE")
        where = f"in ZEPHYR_BASE={given}, " if given else ""
        yield Missing(
            f"Zephyr ({where}around the current directory, and in CMake's package registry)",
            GET_WORKSPACE,
        )
        return
    topdir = _topdir_above(base)
    if topdir is None:
        yield Missing(f"a west workspace around {base} (no .west above it)", GET_WORKSPACE)
        return
    if not (topdir / _WAMR).is_dir():
        yield Missing(f"WAMR ({topdir / _WAMR})", f"{GET_WORKSPACE}, or clone it there")
    if _find_west(topdir, environ) is None:
        yield Missing(
            "a west whose Python has Zephyr's requirements (on PATH, or in a virtual environment "
            f"in or beside {topdir})",
            f"pip install west -r {base}/scripts/requirements-base.txt",
        )


def _missing_tools(native: bool, qemu: str, cross: bool) -> Iterator[Missing]:
    for tool, package in (("cmake", "cmake"), ("ninja", "ninja-build")):
        if shutil.which(tool) is None:
            yield Missing(tool, f"apt install {package}")
    if native and shutil.which("gcc") is None:
        yield Missing("a host C compiler", "apt install gcc")
    if qemu and shutil.which(qemu) is None:
        yield Missing(qemu, "apt install qemu-system-arm")
    if cross and not (
        "ZEPHYR_TOOLCHAIN_VARIANT" in os.environ or _has_sdk() or shutil.which(_CROSS_COMPILER)
    ):
        yield Missing(
            "a cross compiler (the Zephyr SDK or arm-none-eabi-gcc)",
            "west sdk install, or apt install gcc-arm-none-eabi",
        )


def _find_zephyr(environ: Mapping[str, str]) -> Path | None:
    return next(
        (base.resolve() for base in _zephyr_candidates(environ) if (base / "VERSION").is_file()),
        None,
    )


def _zephyr_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if given := environ.get("ZEPHYR_BASE"):
        yield Path(given)
    for start in (Path.cwd(), Path(__file__).resolve()):
        topdir = _topdir_above(start)
        if topdir is not None:
            config = configparser.ConfigParser()
            config.read(topdir / ".west" / "config", encoding="utf-8")
            yield topdir / config.get("zephyr", "base", fallback="zephyr")
    registry = Path(environ.get("HOME") or Path.home()) / _REGISTRY
    for entry in sorted(registry.glob("*")):
        # an entry is a file with the path of share/zephyr-package/cmake in it
        yield Path(entry.read_text(encoding="utf-8").strip()).parent.parent.parent


def _topdir_above(start: Path) -> Path | None:
    return next(
        (folder for folder in (start, *start.parents) if (folder / ".west" / "config").is_file()),
        None,
    )


def _version(base: Path) -> str:
    found = dict(_VERSION_LINE.findall((base / "VERSION").read_text(encoding="utf-8")))
    parts = (found.get(key, "0") for key in ("VERSION_MAJOR", "VERSION_MINOR", "PATCHLEVEL"))
    return ".".join(parts)


def _find_west(topdir: Path, environ: Mapping[str, str]) -> Path | None:
    return next((west for west in _west_candidates(topdir, environ) if _can_build(west)), None)


def _west_candidates(topdir: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("west", path=environ.get("PATH"))
    if on_path is not None:
        yield Path(on_path)
    yield Path(sys.executable).with_name("west")
    for folder, pattern in ((topdir, "*"), (topdir, ".*"), (topdir.parent, "*venv*")):
        yield from sorted(folder.glob(f"{pattern}/bin/west"))


@functools.cache
def _can_build(west: Path) -> bool:
    """Whether the interpreter that ``west`` names has what Zephyr's own build scripts import."""
    if not os.access(west, os.X_OK):
        return False
    with west.open("rb") as file:
        first = file.readline(512).decode(errors="replace").strip()
    if not (first.startswith("#!") and "python" in first):
        return True  # not a Python script: nothing to ask
    command = [*shlex.split(first[2:]), "-c", "import elftools, yaml, pykwalify, packaging"]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _has_sdk() -> bool:
    """Whether Zephyr will find its SDK by itself."""
    registry = Path.home() / ".cmake" / "packages" / "Zephyr-sdk"
    return (
        "ZEPHYR_SDK_INSTALL_DIR" in os.environ
        or any(registry.glob("*"))
        or any(
            any(place.glob("zephyr-sdk-*"))
            for place in (Path("/opt"), Path("/usr/local"), Path.home())
        )
    )
