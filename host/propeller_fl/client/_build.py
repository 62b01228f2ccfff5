"""Builds a client module from C: the files of one directory and the SDK, with the pinned compiler.

The bytes depend on the sources, the flags below and the compiler's version, on nothing else: no
path, no time, no machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl.errors import ConfigError, ModuleError

_COMPILE: Final = (
    "-target wasm32-freestanding -mcpu=mvp -std=c11 -ffreestanding -nostdlib -g0".split()
    + ["-ffp-contract=off"]  # no fused multiply-add: the same bits on every runtime
    + "-Os -Xclang -Oz -flto".split()  # a module has to fit beside firmware
    + "-Wall -Wextra -Wconversion -Werror -Wno-unused-command-line-argument".split()
)

_LINK: Final = (
    "--stack-first -z stack-size=2048".split()  # an overflow traps instead of reaching data
    + ["--no-growable-memory"]  # as many pages as the static arrays need, and no more ever
    + "--export=__heap_base --export=__data_end".split()  # WAMR shrinks the memory to these
    + "--strip-all --compress-relocations --build-id=none".split()
    # Strength reduction spoils the loops: it hides constant offsets from the load instructions.
    + "-mllvm -disable-lsr".split()
    # Calls instead of copies, which is what -Oz means but for small functions.
    + "-mllvm -inline-threshold=-1000 -mllvm -enable-load-pre=false".split()
)

_SDK_IN_CHECKOUT: Final = Path("wasm_client", "sdk")


@dataclass(frozen=True, slots=True)
class BuiltModule:
    """A module that has been built: where it is, the digest of its bytes, and how many."""

    path: Path
    sha256: str
    size_bytes: int


def build_module(source_dir: Path, out: Path, *, sdk_dir: Path | None = None) -> BuiltModule:
    """Compile every ``*.c`` of ``source_dir`` with the SDK into the module ``out``.

    ``sdk_dir`` is by default ``wasm_client/sdk`` of the checkout this package runs from. ``out``
    appears whole or not at all. Raises :class:`ConfigError` when there is no compiler, SDK or
    source, or ``out`` cannot be written; :class:`ModuleError`, in the compiler's words, when the
    sources do not compile or link.
    """
    sources = sorted(source_dir.glob("*.c"))
    if not sources:
        raise ConfigError(f"{source_dir} holds no C source", hint="a client is one or more *.c")
    sdk_dir = sdk_dir or _find_sdk()
    sdk_sources = sorted(sdk_dir.glob("*.c"))
    if not sdk_sources:
        raise ConfigError(f"{sdk_dir} is not the client SDK")
    zig = _find_zig()
    with tempfile.TemporaryDirectory() as scratch:
        # The client last, with its arena: what lies below 8 KiB has shorter addresses.
        all_sources = sdk_sources + sources
        objects = [Path(scratch, f"{index}.o") for index in range(len(all_sources))]

        def compile_one(source: Path, target: Path) -> None:
            _run([*zig, "cc", *_COMPILE, "-I", str(sdk_dir), "-c", str(source), "-o", str(target)])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, all_sources, objects))
        linked = Path(scratch, "linked.wasm")
        _run([*zig, "wasm-ld", *_LINK, *map(str, objects), "-o", str(linked)])
        image = linked.read_bytes()
    _replace(out, image)
    return BuiltModule(out, hashlib.sha256(image).hexdigest(), len(image))


def _find_sdk() -> Path:
    sdk_dir = Path(__file__).resolve().parents[3] / _SDK_IN_CHECKOUT
    if not sdk_dir.is_dir():
        raise ConfigError(
            "the client SDK is not part of the installed package",
            hint=f"work in a checkout of this project, which has it in {_SDK_IN_CHECKOUT}",
        )
    return sdk_dir


def _find_zig() -> list[str]:
    if importlib.util.find_spec("ziglang") is None:
        raise ConfigError(
            "the C compiler for Wasm is not installed", hint="pip install 'propeller-fl[client]'"
        )
    return [sys.executable, "-m", "ziglang"]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise ModuleError(f"the module does not build:\n{done.stderr.strip()}")


def _replace(out: Path, image: bytes) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(image)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{out} cannot be written: {error}") from error
