"""The two runtimes with small limits, and what a run came to on each in words both share."""

from __future__ import annotations

import math
import os
import select
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from propeller_fl.errors import (
    ContractError,
    LimitExceeded,
    ModuleError,
    ModuleExit,
    ModuleTrap,
)
from propeller_fl.proplet import Invocation, Limits, WasmtimeRuntime, check_module
from tests.fuzz.target import Broken

MEMORY_BYTES: Final = 192 * 1024
OUTPUT_BYTES: Final = 65_536

_LIMITS: Final = Limits(
    fuel=1_000_000, wall_time_s=15.0, memory_bytes=MEMORY_BYTES, output_bytes=OUTPUT_BYTES
)
_ANSWER_S: Final = 15.0
_SIZES: Final = struct.Struct("<4I")
# As enum fl_run_end in fl_proplet.h has them.
_ENDS: Final = (
    "ok",
    "exit",
    "trap",
    "contract",
    "instructions",
    "memory",
    "output",
    "stopped",
    "unsigned_image",
    "untrusted_signature",
    "internal",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: ``ok`` with its output, ``exit`` with its status, or for what reason."""

    end: str
    output: bytes = b""
    status: int = 0
    detail: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a module is given besides itself."""

    env: Mapping[str, str]
    model: bytes
    data: bytes


class HostRuntime:
    """Wasmtime, as a proplet on a desktop has it."""

    def __init__(self) -> None:
        self._runtime = WasmtimeRuntime()

    def run(self, image: bytes, inputs: Inputs) -> Outcome:
        """Any bytes; a fault of ours is raised."""
        files = {"model": inputs.model, "data": inputs.data}
        invocation = Invocation(inputs.env, files)
        try:
            result = self._runtime.run(self._runtime.compile(image), invocation, _LIMITS)
        except ContractError as error:
            return Outcome("contract", detail=str(error))
        except ModuleExit as error:
            return Outcome("exit", status=error.status, detail=str(error))
        except ModuleTrap as error:
            return Outcome("trap", detail=str(error))
        except LimitExceeded as error:
            if error.limit == "wall_time":  # its fuel was to be used up long before
                raise Broken("the module was not stopped by its fuel") from error
            return Outcome(error.limit, detail=str(error))
        except ModuleError as error:
            return Outcome("memory", detail=str(error))  # more than it may have from the start
        return Outcome("ok", result.stdout)


class BoardRuntime:
    """The firmware's runtime: firmware/tests/wasm_fuzz, a process that takes one module after
    another. Use as a context manager."""

    def __init__(self, program: Path) -> None:
        sanitizers = "halt_on_error=1:print_stacktrace=1"
        self._process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "ASAN_OPTIONS": f"{sanitizers}:detect_leaks=0",  # its memory is static
                "UBSAN_OPTIONS": sanitizers,
            },
        )

    def send(self, image: bytes, inputs: Inputs) -> None:
        """Begin a run; :meth:`receive` waits for its end."""
        env = b"".join(f"{name}={value}".encode() + b"\0" for name, value in inputs.env.items())
        parts = (image, env, inputs.model, inputs.data)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(_SIZES.pack(*map(len, parts)) + b"".join(parts))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def receive(self) -> tuple[Outcome, int]:
        """How the run ended, and how many branches were taken as never before."""
        end, new_edges, output_size, detail_size = _SIZES.unpack(self._read(_SIZES.size))
        output = self._read(output_size)
        detail = self._read(detail_size).decode(errors="replace")
        status = int(detail.split()[1].rstrip(":")) if _ENDS[end] == "exit" else 0
        return Outcome(_ENDS[end], output, status, detail), new_edges

    def _read(self, size: int) -> bytes:
        out = self._process.stdout
        assert out is not None
        data = b""
        deadline_s = time.monotonic() + _ANSWER_S
        while len(data) < size:
            left_s = deadline_s - time.monotonic()
            if not select.select([out], [], [], max(0.0, left_s))[0]:
                self._process.kill()
                raise Broken(f"the board's runtime has not ended after {_ANSWER_S:g} s")
            piece = os.read(out.fileno(), size - len(data))
            if not piece:
                raise self._died()
            data += piece
        return data

    def _died(self) -> Broken:
        return Broken(f"the board's runtime died with status {self._process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()


def difference(image: bytes, host: Outcome, board: Outcome) -> str:
    """In what two runs of the same module differ, or nothing.

    A limit that one of them ran into says nothing: they count differently, and a board has less.
    Where the firmware does not load a module, or a desktop does not, there is nothing to compare.
    """
    if _LIMITED.intersection((host.end, board.end)) or "stack overflow" in board.detail:
        return ""
    if host == board or (host.end, board.end) == ("trap", "trap"):
        return ""
    if "stack overflow" in host.detail:
        return ""
    report = check_module(image)
    if report.grows_memory or "no-layout" not in {one.code for one in report.findings}:
        return ""  # a board's memory does not grow, and ends where the module says it may
    at = _first_difference(host.output, board.output)
    if at is None and (host.end, host.status) == (board.end, board.status):
        return ""
    at = at or 0
    shown = [f"{one.end} {one.status} {one.output[at : at + 16].hex(' ')}" for one in (host, board)]
    return f"on Wasmtime: {shown[0]}; on WAMR: {shown[1]} (output from byte {at} on)"


def _first_difference(one: bytes, other: bytes) -> int | None:
    """Where two outputs differ but for the bits of a NaN, which Wasm leaves to the machine."""
    at = 0
    while at < max(len(one), len(other)):
        if one[at : at + 1] == other[at : at + 1]:
            at += 1
        elif (end := _end_of_nan(one, other, at)) > at:
            at = end
        else:
            return at
    return None


def _end_of_nan(one: bytes, other: bytes, at: int) -> int:
    """Where the floats end that are NaN in both and hold byte ``at``; ``at`` if there are none."""
    for form, size in (("<d", 8), ("<f", 4)):
        for start in range(max(0, at - size + 1), at + 1):
            pieces = [text[start : start + size] for text in (one, other)]
            if all(len(p) == size and math.isnan(struct.unpack(form, p)[0]) for p in pieces):
                return start + size
    return at


_LIMITED: Final = frozenset(("contract", "instructions", "memory", "internal", "stopped"))
