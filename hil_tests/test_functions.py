"""Tasks of no round: functions, commands and daemons, as Propeller's managers send them."""

from __future__ import annotations

import pytest

from hil_tests.boards import Board
from hil_tests.desk import WAIT_S, Desk
from propeller_fl.firmware import BoardKind
from propeller_fl.wire import TaskResult, TaskStart, TaskStop
from tests.proplet.modules import ECHO, LOOK, SLEEPER, client, say, wasm
from tests.support.floats import CASES, REFUSED

ADD = wasm(
    '(module (func (export "add") (param i32 i32) (result i32)'
    " (i32.add (local.get 0) (local.get 1))))"
)
OTHERS = wasm(
    "(module (global $ready (mut i64) (i64.const 0))"
    ' (func (export "_initialize") (global.set $ready (i64.const -40)))'
    ' (func (export "less") (param i64) (result i64)'
    "   (i64.sub (global.get $ready) (local.get 0)))"
    ' (func (export "half") (param f32) (result f32) (f32.mul (local.get 0) (f32.const 0.5)))'
    ' (func (export "many") (param f64 i32) (result i32 f64)'
    "   (local.get 1) (f64.add (local.get 0) (f64.const 0.1)))"
    ' (func (export "endless") (loop $again (br $again)))'
    ' (func (export "run") (result i32) (i32.const 7)))'
)
ENVIRON = client(
    " (call $exit_on (call $environ_sizes_get (i32.const 0) (i32.const 4)))"
    " (call $exit_on (call $environ_get (i32.const 64) (i32.const 1024)))"
    " (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 4)))"
)
COMMANDS, FLOATS = "CONFIG_FL_COMMANDS", "CONFIG_FL_FLOATS"


def give(
    desk: Desk,
    image: bytes,
    name: str,
    *inputs: str,
    args: tuple[str, ...] = (),
    daemon: bool = False,
) -> str:
    """Give the task as Propeller does: on the topic that all share, with the image in it."""
    task_id = f"{name}-{len(desk.peer.heard(desk.topics.proplet_results))}"
    start = TaskStart(
        task_id,
        name,
        desk.proplet_id,
        "",
        {},
        file=image,
        inputs=inputs,
        cli_args=args,
        daemon=daemon,
    )
    desk.peer.publish(desk.topics.task_start, start.encode())
    return task_id


def call(
    desk: Desk, image: bytes, name: str, *inputs: str, args: tuple[str, ...] = ()
) -> TaskResult:
    return desk.result(give(desk, image, name, *inputs, args=args))


def stop(desk: Desk, task_id: str) -> TaskResult:
    desk.peer.publish(desk.topics.task_stop, TaskStop(task_id).encode())
    return desk.result(task_id)


def need(board: Board, option: str) -> None:
    if not board.image.option(option):
        pytest.skip(f"{option} is off on this board")


def test_functions(board: Board, desk: Desk) -> None:
    results = {
        ("add", "3", "5"): "8",
        ("add", "2147483647", "1"): "-2147483648",
        ("add", "4294967295", "-1"): "-2",
    }
    for (name, *inputs), expected in results.items():
        assert call(desk, ADD, name, *inputs).results == expected
    assert call(desk, OTHERS, "less", "2").results == "-42"
    assert call(desk, OTHERS, "nothing-of-this-name").results == "7"
    assert call(desk, say("hello"), "greet").results == "hello"


@pytest.mark.parametrize(
    ("image", "name", "inputs", "words"),
    [
        (ADD, "add", ["1"], "fewer inputs"),
        (ADD, "add", ["1", "2", "3"], "more inputs"),
        (ADD, "add", ["1", "4294967296"], "no number of its type"),
        (ADD, "add", ["1", "1.5"], "no number of its type"),
        (ADD, "subtract", ["1", "2"], "no _start"),
        (OTHERS, "half", ["one"], "no "),
        (OTHERS, "endless", [], "instructions"),
    ],
)
def test_what_does_not_fit_is_the_tasks_error(
    board: Board, desk: Desk, image: bytes, name: str, inputs: list[str], words: str
) -> None:
    assert words in call(desk, image, name, *inputs).error


def test_floats_are_the_same_bits_and_texts_as_on_the_host(board: Board, desk: Desk) -> None:
    need(board, FLOATS)
    for kind, text, looked_at in CASES:
        result = call(desk, LOOK, kind, text)
        assert (result.results, result.error) == (looked_at, ""), (kind, text)
    for text in REFUSED:
        if text.strip() == text != "":  # what has a blank in it is no input of a board
            assert "no number of its type" in call(desk, LOOK, "f64", text).error, text
    assert call(desk, OTHERS, "many", "0.2", "-1").results == "-1,0.30000000000000004"


# --- commands


def test_a_command_finds_its_arguments(board: Board, desk: Desk) -> None:
    need(board, COMMANDS)
    text = call(desk, ECHO, "echo", "b", "-7", args=("a a", "")).results

    assert text == "echo\0a a\0\0b\x00-7\0"
    assert call(desk, ECHO, "echo", "b").results == "echo\0b\0"
    assert call(desk, ECHO, "echo").results == ""  # as where the client contract holds


def test_options_in_front_are_the_proplets(board: Board, desk: Desk) -> None:
    need(board, COMMANDS)
    assert call(desk, ADD, "sum", "1", "2", args=("--invoke", "add")).results == "3"
    variables = call(desk, ENVIRON, "env", args=("--env", "B=2=3", "--env=C", "--", "--c")).results
    assert {"B=2=3", "C="} < set(variables.split("\0"))
    assert call(desk, ADD, "x", args=("--invoke=gone",)).error.endswith("no function gone")
    assert "unknown option: --dir=/" in call(desk, ADD, "add", args=("--dir=/",)).error
    long = call(desk, ADD, "add", args=("x" * 5000,))
    assert long.error == "task: too_large: cli_args"


# --- daemons


def test_a_daemon_runs_until_it_is_stopped(board: Board, desk: Desk) -> None:
    need(board, COMMANDS)
    daemon = give(desk, SLEEPER, "serve", daemon=True)
    board.console.expect("module: up", WAIT_S)
    waiting = desk.task(desk.image(say("next")))
    board.console.expect(f"task {waiting}: task waits for", WAIT_S)

    stopped = stop(desk, daemon)

    assert (stopped.results, stopped.error) == ("up\n", "")
    assert desk.result(waiting).results == "next"


def test_a_daemon_is_started_again_with_its_board(board: Board, desk: Desk) -> None:
    need(board, COMMANDS)
    daemon = give(desk, SLEEPER, "serve", daemon=True)
    board.console.expect("module: up", WAIT_S)

    board.reset()

    board.console.expect("module: up", WAIT_S)
    assert stop(desk, daemon).results == "up\n"


def test_a_daemon_that_never_sleeps_is_stopped_too(board: Board, desk: Desk) -> None:
    need(board, COMMANDS)
    daemon = give(desk, OTHERS, "endless", daemon=True)

    if board.spec.kind is BoardKind.NATIVE:  # time stands still there while a module runs
        assert desk.result(daemon).error.startswith("instructions: ")
    else:
        board.console.expect(f"task {daemon}: running", WAIT_S)
        stopped = stop(desk, daemon)
        assert (stopped.results, stopped.error) == ("", "")
    assert call(desk, ADD, "add", "3", "5").results == "8"


def test_of_what_a_daemon_writes_the_end_is_kept(board: Board, desk: Desk) -> None:
    need(board, COMMANDS)
    text = "".join(f"{number:04}\n" for number in range(1000))
    chatter = client(
        "(local $left i32) (local.set $left (i32.const 5))"
        f" (loop $on (call $say (i32.const 1) (i32.const 64) (i32.const {len(text)}))"
        " (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
        text=text.replace("\n", "\\n"),
    )
    kept = desk.result(give(desk, chatter, "chatter", daemon=True)).results

    assert kept
    assert (text * 5).endswith(kept)
    assert len(kept) == min(int(board.image.option("CONFIG_FL_OUTPUT_BYTES_MAX")), 5 * len(text))


def test_sleeping_is_not_in_the_contract_of_a_round(board: Board, desk: Desk) -> None:
    failed = desk.run(SLEEPER, {"ROUND_ID": "r-1"})

    assert failed.error.startswith("contract: ")
    assert failed.error.endswith("poll_oneoff")
