"""A run in an instance that was made ready while nobody waited is like the first in all else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from propeller_fl.errors import LimitExceeded, ModuleError, ModuleExit
from propeller_fl.proplet import Invocation, Limits, RunResult, WasmtimeRuntime
from tests.proplet.modules import client, read_file, wasm

COUNT = client(  # a byte of memory and a global, both counted up, and told
    "(i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))"
    " (global.set $runs (i32.add (global.get $runs) (i32.const 1)))"
    " (i32.store8 (i32.const 65) (i32.add (global.get $runs) (i32.const 48)))"
    " (call $say (i32.const 1) (i32.const 64) (i32.const 2))",
    text="0",
    more="(global $runs (mut i32) (i32.const 0))",
)
GROW = client("(call $exit_on (i32.eq (memory.grow (i32.const 8)) (i32.const -1)))", pages="1 16")


def run(
    runtime: WasmtimeRuntime,
    image: bytes,
    files: dict[str, bytes | Path] | None = None,
    limits: Limits | None = None,
) -> RunResult:
    """Run, and make ready for the next one."""
    with contextlib.ExitStack() as leftovers:
        invocation = Invocation(files=files or {})
        module = runtime.compile(image)
        return runtime.run(module, invocation, limits or Limits(), leftovers=leftovers)


def test_nothing_of_one_run_is_seen_in_the_next(runtime: WasmtimeRuntime) -> None:
    results = [run(runtime, COUNT) for _ in range(3)]

    assert [result.stdout for result in results] == [b"11"] * 3
    assert len({result.fuel_used for result in results}) == 1


@pytest.mark.parametrize("call", ["fd_read", "fd_pread"])
def test_each_run_has_its_own_files_of_any_size(
    runtime: WasmtimeRuntime, call: str, tmp_path: Path
) -> None:
    image = read_file("data", call)
    path = tmp_path / "data"
    path.write_bytes(b"of a file" + bytes(700_000))

    assert run(runtime, image, {"data": b"some rows"}).stdout == b"some rows"
    assert run(runtime, image, {"data": path}).stdout == b"of a file" + bytes(4087)
    with pytest.raises(ModuleExit):
        run(runtime, image)
    assert run(runtime, image, {"model": b"x" * 300_000, "data": b"y"}).stdout == b"y"


def test_each_run_has_its_own_limits(runtime: WasmtimeRuntime) -> None:
    small = Limits(memory_bytes=5 * 65_536)
    for limits, grows in ((Limits(), True), (small, False), (Limits(), True), (small, False)):
        with contextlib.nullcontext() if grows else pytest.raises(ModuleExit, match="status 1"):
            run(runtime, GROW, limits=limits)


def test_a_run_has_the_time_and_fuel_that_it_begins_with(runtime: WasmtimeRuntime) -> None:
    endless = client("(loop $again (br $again))")
    for limits, words in (
        (Limits(fuel=100_000), "instructions"),
        (Limits(wall_time_s=0.2), "did not end within 0.2 s"),
    ):
        for _ in range(2):
            with pytest.raises(LimitExceeded, match=words):
                run(runtime, endless, limits=limits)


def test_a_module_that_cannot_be_instantiated_fails_each_time(runtime: WasmtimeRuntime) -> None:
    image = wasm(
        '(module (memory (export "memory") 1) (table 100000 funcref) (func (export "_start")))'
    )
    for _ in range(2):
        with pytest.raises(ModuleError, match="cannot be started"):
            run(runtime, image)


def test_a_runtime_that_is_closed_lets_go_of_what_was_ready() -> None:
    with WasmtimeRuntime() as runtime:
        run(runtime, COUNT)
    with contextlib.ExitStack() as leftovers, pytest.raises(Exception, match="closed"):
        runtime.run(runtime.compile(COUNT), Invocation(), leftovers=leftovers)
