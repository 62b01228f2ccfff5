"""What a run gives back, and how each way to fail is told."""

from __future__ import annotations

import logging

import pytest

from propeller_fl.errors import ContractError, MessageError, ModuleExit, ModuleTrap, RequestError
from propeller_fl.proplet import Contract, Invocation, WasmtimeRuntime
from tests.proplet.modules import SPEND, client, say, wasm

NOTHING = Invocation()


def test_stdout_is_the_result(runtime: WasmtimeRuntime) -> None:
    assert runtime.run(runtime.compile(say("hello")), NOTHING).stdout == b"hello"


def test_module_without_imports_runs(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(wasm('(module (memory (export "memory") 1) (func (export "_start")))'))

    assert runtime.run(module, NOTHING).stdout == b""


def test_status_zero_is_a_good_end(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(client("(call $proc_exit (i32.const 0)) unreachable"))

    assert runtime.run(module, NOTHING).stdout == b""


def test_fuel_used_is_the_same_each_time(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(SPEND)

    first, second = (runtime.run(module, NOTHING).fuel_used for _ in range(2))

    assert first == second > 2_000_000


def test_other_status_is_an_exit_with_the_last_line_of_stderr(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(
        client(
            "(call $say (i32.const 2) (i32.const 64) (i32.const 14))"
            " (call $proc_exit (i32.const 3))",
            text="reading\\nno w!\\n",
        )
    )

    with pytest.raises(ModuleExit, match="status 3: no w!") as caught:
        runtime.run(module, NOTHING)
    assert caught.value.status == 3


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("unreachable", "unreachable"),
        ("(i32.store (i32.const 65536) (i32.const 1))", "memory out of bounds"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "division by zero"),
        ("(call $recurse)", "stack overflow"),
    ],
)
def test_trap_says_what_happened(runtime: WasmtimeRuntime, start: str, words: str) -> None:
    module = runtime.compile(client(start, more="(func $recurse (call $recurse))"))

    with pytest.raises(ModuleTrap, match=words):
        runtime.run(module, NOTHING)


def test_module_goes_on_working_after_a_trap(runtime: WasmtimeRuntime) -> None:
    with pytest.raises(ModuleTrap):
        runtime.run(runtime.compile(client("unreachable")), NOTHING)

    assert runtime.run(runtime.compile(say("hello")), NOTHING).stdout == b"hello"


def test_data_outside_the_memory_is_a_trap(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(client("", more='(data (i32.const 65535) "ab")'))

    with pytest.raises(ModuleTrap, match="out of bounds"):
        runtime.run(module, NOTHING)


def test_module_that_breaks_the_contract_is_not_compiled(runtime: WasmtimeRuntime) -> None:
    image = wasm(
        '(module (import "wasi_snapshot_preview1" "random_get"'
        ' (func (param i32 i32) (result i32))) (memory (export "memory") 1)'
        ' (func (export "_start")))'
    )

    with pytest.raises(ContractError, match="random_get"):
        runtime.compile(image)


def test_every_allowed_import_can_be_linked(runtime: WasmtimeRuntime) -> None:
    letters = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}
    imports = []
    for name, signature in Contract.load().imports.items():
        params, _, results = signature[1:].partition(")")
        types = "".join(f"(param {letters[letter]})" for letter in params)
        types += "".join(f"(result {letters[letter]})" for letter in results)
        imports.append(f'(import "wasi_snapshot_preview1" "{name}" (func {types}))')
    module = runtime.compile(
        wasm(f'(module {" ".join(imports)} (memory (export "memory") 1) (func (export "_start")))')
    )

    assert runtime.run(module, NOTHING).stdout == b""


def test_stderr_is_logged_a_line_a_record(
    runtime: WasmtimeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    module = runtime.compile(say("epoch 1\nepoch 2\n", fd=2))
    caplog.set_level(logging.INFO)

    result = runtime.run(module, Invocation({"ROUND_ID": "r-1", "PROPLET_ID": "p-1"}))

    records = [record for record in caplog.records if "epoch" in record.getMessage()]
    assert [record.getMessage() for record in records] == ["module: epoch 1", "module: epoch 2"]
    assert {(vars(r)["round_id"], vars(r)["proplet_id"]) for r in records} == {("r-1", "p-1")}
    assert result.stderr == "epoch 1\nepoch 2\n"


def test_stderr_of_a_failed_run_is_logged(
    runtime: WasmtimeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    module = runtime.compile(
        client("(call $say (i32.const 2) (i32.const 64) (i32.const 4)) unreachable", text="help")
    )
    caplog.set_level(logging.INFO)

    with pytest.raises(ModuleTrap, match="help"):
        runtime.run(module, NOTHING)
    assert "module: help" in caplog.messages


def test_control_characters_do_not_reach_the_log(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(
        client("(call $say (i32.const 2) (i32.const 64) (i32.const 5))", text="\\1b[2Ja")
    )

    assert runtime.run(module, NOTHING).stderr == "\N{REPLACEMENT CHARACTER}[2Ja"


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"A": "\ud800"}])
def test_environment_that_cannot_be_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(MessageError, match="environment"):
        Invocation(env)


def test_closed_runtime_refuses_to_run() -> None:
    with WasmtimeRuntime() as runtime:
        module = runtime.compile(say("hello"))

    with pytest.raises(RequestError, match="closed"):
        runtime.run(module, NOTHING)
