"""Tasks that are of no round: functions, commands and daemons, and what they are refused for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from propeller_fl.errors import (
    ContractError,
    LimitExceeded,
    MessageError,
    ModuleExit,
    ModuleTrap,
    PropellerError,
    RequestError,
)
from propeller_fl.proplet import GenericRuns, Stop, is_generic
from propeller_fl.wire import TaskStart

from .modules import ECHO, SLEEPER, client, say, wasm

ADD = wasm(
    '(module (func (export "add") (param i32 i32) (result i32)'
    " (i32.add (local.get 0) (local.get 1))))"
)
LOOP = wasm('(module (func (export "run") (loop $again (br $again))))')


def task(name: str = "", *inputs: str, **more: object) -> TaskStart:
    return replace(TaskStart("t-1", name, "p-1", "", {}), inputs=inputs, **more)  # type: ignore[arg-type]


def runs(**limits: int) -> GenericRuns:
    some = {"fuel": 10**8, "wall_time_s": 60, "memory_bytes": 1 << 22, "output_bytes": 4096}
    return GenericRuns(**(some | limits))


def run(image: bytes, start: TaskStart) -> str:
    return runs().run(start, image, Stop())


# --- functions


@pytest.mark.parametrize(
    ("inputs", "result"),
    [
        (("3", "5"), "8"),
        (("-3", "5"), "2"),
        (("4294967295", "1"), "0"),
        (("2147483647", "1"), "-2147483648"),
    ],
)
def test_a_function_is_called_with_the_inputs(inputs: tuple[str, ...], result: str) -> None:
    assert run(ADD, task("add", *inputs)) == result


@pytest.mark.parametrize(
    ("kind", "given", "result"),
    [
        ("i64", "-9223372036854775808", "-9223372036854775808"),
        ("i64", "18446744073709551615", "-1"),
        ("f32", "0.1", "0.1"),
        ("f32", "8", "8"),
        ("f64", "1e-3", "0.001"),
        ("f64", "2.5", "2.5"),
    ],
)
def test_values_of_each_type_travel_as_text(kind: str, given: str, result: str) -> None:
    same = wasm(f'(module (func (export "same") (param {kind}) (result {kind}) (local.get 0)))')

    assert run(same, task("same", given)) == result


def test_several_results_are_in_one_text() -> None:
    both = wasm('(module (func (export "both") (result i32 i64) (i32.const -1) (i64.const 7)))')

    assert run(both, task("both")) == "-1,7"


def test_a_reactor_is_initialised_first() -> None:
    reactor = wasm(
        "(module (global $ready (mut i32) (i32.const 0))"
        ' (func (export "_initialize") (global.set $ready (i32.const 41)))'
        ' (func (export "answer") (result i32) (i32.add (global.get $ready) (i32.const 1))))'
    )

    assert run(reactor, task("answer")) == "42"


def test_a_function_without_results_yields_what_it_wrote() -> None:
    assert run(SLEEPER, task("doze")) == "up\n"


def test_the_function_may_be_named_in_the_arguments() -> None:
    assert run(ADD, task("sum", "1", "2", cli_args=("--invoke", "add"))) == "3"
    assert run(ADD, task("sum", "1", "2", cli_args=("--invoke=add",))) == "3"


# --- commands


def test_a_command_finds_its_arguments() -> None:
    assert run(ECHO, task("echo", "b", "c", cli_args=("a",))) == "echo\0a\0b\0c\0"


def test_a_command_finds_its_environment_and_no_files() -> None:
    environ = client(
        " (call $exit_on (call $environ_sizes_get (i32.const 0) (i32.const 4)))"
        " (call $exit_on (call $environ_get (i32.const 64) (i32.const 1024)))"
        " (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 4)))"
    )

    text = run(environ, task("env", env={"A": "1"}, cli_args=("--env", "B=2=3", "--", "--c")))

    assert text == "A=1\0B=2=3\0"
    opened = client("(drop (call $open (i32.const 64) (i32.const 4)))", text="data")
    with pytest.raises(ModuleExit):
        run(opened, task("read", "x"))


# --- daemons


class Nap(threading.Event):
    """Tells when somebody begins to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        return super().wait(timeout)


@pytest.fixture
def stop_asleep() -> Iterator[Stop]:
    """Stops a run once it sleeps for the first time."""
    stop, nap = Stop(), Nap()
    stop.wanted = nap

    def wait_and_stop() -> None:
        nap.begun.wait(60)
        stop.now()

    thread = threading.Thread(target=wait_and_stop)
    thread.start()
    yield stop
    nap.begun.set()
    thread.join()


def test_a_daemon_runs_until_it_is_stopped_and_its_last_words_are_the_result(
    stop_asleep: Stop,
) -> None:
    assert runs(fuel=1000).run(task("sleeper", daemon=True), SLEEPER, stop_asleep) == "up\n"


def test_a_daemon_may_write_without_end(stop_asleep: Stop) -> None:
    text = runs(output_bytes=8).run(task("chatter", daemon=True), SLEEPER, stop_asleep)

    assert 0 < len(text) <= 64 * 1024
    assert set(text) <= set("up\n")


def test_what_is_stopped_before_it_begins_does_nothing() -> None:
    stop = Stop()
    stop.now()

    with pytest.raises(RequestError, match="stopped"):
        runs().run(task("run"), LOOP, stop)


# --- limits and refusals


@pytest.mark.parametrize(
    ("image", "start", "limits", "error", "words"),
    [
        (LOOP, task("run"), {}, LimitExceeded, "instructions"),
        (LOOP, task("run"), {"fuel": 1 << 50, "wall_time_s": 0.1}, LimitExceeded, "within 0.1 s"),
        (SLEEPER, task(), {"wall_time_s": 0.1}, LimitExceeded, "within 0.1 s"),
        (SLEEPER, task("chatter"), {}, LimitExceeded, "4096 bytes"),
        (ADD, task("add", "1"), {}, MessageError, "takes 2 arguments, and inputs has 1"),
        (ADD, task("add", "1", "one"), {}, MessageError, "'one', which is no i32"),
        (ADD, task("add", "1", "4294967296"), {}, MessageError, "no i32"),
        (ADD, task("subtract", "1", "2"), {}, ContractError, "it exports add"),
        (ADD, task("add", cli_args=("--dir=/",)), {}, MessageError, "--dir"),
        (client("unreachable"), task("x", "1"), {}, ModuleTrap, "unreachable"),
        (client("(call $proc_exit (i32.const 3))"), task("x", "1"), {}, ModuleExit, "status 3"),
        (wasm('(module (import "env" "f" (func)))'), task(), {}, ContractError, "env.f"),
        (b"\0asm", task(), {}, ContractError, "unknown Wasm version"),
    ],
)
def test_what_goes_wrong_is_said(
    image: bytes,
    start: TaskStart,
    limits: dict[str, int],
    error: type[PropellerError],
    words: str,
) -> None:
    with pytest.raises(error) as failure:
        runs(**limits).run(start, image, Stop())

    assert words in str(failure.value)


def test_a_training_module_stays_with_the_contract() -> None:
    round_ = {"ROUND_ID": "r-1"}

    assert not is_generic(task("add", env=round_), ADD)
    assert not is_generic(task("train"), say("x"))
    assert not is_generic(task("_start"), say("x"))
    assert is_generic(task("add"), ADD)
    assert is_generic(task("train", "1"), say("x"))
    assert is_generic(task("sleep"), SLEEPER)
