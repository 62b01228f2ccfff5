"""Each limit ends a run, by its own name, and the runtime goes on."""

from __future__ import annotations

import pytest

from propeller_fl.errors import ConfigError, LimitExceeded
from propeller_fl.proplet import Invocation, Limits, WasmtimeRuntime
from tests.proplet.modules import ENDLESS, SPEND, client, say

WRITE_FOR_EVER = client(
    "(loop $again (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))"
    " (i32.store (i32.const 12) (i32.const 1000)) (br $again))"
)
GROW_FOR_EVER = client(
    "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"
)


def exceeded(runtime: WasmtimeRuntime, image: bytes, limits: Limits) -> str:
    """Run a module that must run into a limit; return which one."""
    with pytest.raises(LimitExceeded) as caught:
        runtime.run(runtime.compile(image), Invocation(), limits)
    return caught.value.limit


def test_instructions(runtime: WasmtimeRuntime) -> None:
    assert exceeded(runtime, ENDLESS, Limits(fuel=1_000_000)) == "instructions"


def test_wall_time(runtime: WasmtimeRuntime) -> None:
    assert exceeded(runtime, ENDLESS, Limits(wall_time_s=0.1)) == "wall_time"


def test_wall_time_spent_in_calls_to_the_host(runtime: WasmtimeRuntime) -> None:
    image = client(
        "(loop $again (drop (call $environ_sizes_get (i32.const 0) (i32.const 4))) (br $again))"
    )

    assert exceeded(runtime, image, Limits(wall_time_s=0.1)) == "wall_time"


def test_memory_at_the_start(runtime: WasmtimeRuntime) -> None:
    image = client("", pages="3")

    assert exceeded(runtime, image, Limits(memory_bytes=2 * 65536)) == "memory"


def test_memory_grown_to_the_limit(runtime: WasmtimeRuntime) -> None:
    assert exceeded(runtime, GROW_FOR_EVER, Limits(memory_bytes=4 * 65536)) == "memory"


def test_refused_growth_that_the_module_copes_with_is_no_error(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(client("(drop (memory.grow (i32.const 100)))"))

    runtime.run(module, Invocation(), Limits(memory_bytes=65536))


def test_output(runtime: WasmtimeRuntime) -> None:
    assert exceeded(runtime, WRITE_FOR_EVER, Limits(output_bytes=100_000)) == "output"


def test_output_of_exactly_the_limit_is_within_it(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(say("hello"))

    assert runtime.run(module, Invocation(), Limits(output_bytes=5)).stdout == b"hello"
    assert exceeded(runtime, say("hello"), Limits(output_bytes=4)) == "output"


def test_stderr_keeps_its_end_and_does_not_fail_the_run(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(
        client(
            "(local $left i32) (local.set $left (i32.const 1000))"
            " (loop $again (call $say (i32.const 2) (i32.const 64) (i32.const 100))"
            " (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
            " (call $say (i32.const 2) (i32.const 164) (i32.const 7))",
            text="x" * 100 + "the end",
        )
    )

    stderr = runtime.run(module, Invocation()).stderr

    assert stderr.endswith("xthe end")
    assert len(stderr) == 16 * 1024


def test_runtime_goes_on_after_a_limit(runtime: WasmtimeRuntime) -> None:
    assert exceeded(runtime, ENDLESS, Limits(wall_time_s=0.1)) == "wall_time"

    assert runtime.run(runtime.compile(SPEND), Invocation()).stdout == b"done"


@pytest.mark.parametrize("name", ["fuel", "wall_time_s", "memory_bytes", "output_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1 << 60])
def test_limit_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})
