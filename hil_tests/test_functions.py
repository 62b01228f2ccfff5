"""Tasks of no round: functions with their arguments, as Propeller's managers send them."""

from __future__ import annotations

import pytest

from hil_tests.boards import Board
from hil_tests.desk import Desk
from propeller_fl.wire import TaskResult, TaskStart
from tests.proplet.modules import say, wasm

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
    ' (func (export "endless") (loop $again (br $again)))'
    ' (func (export "run") (result i32) (i32.const 7)))'
)


def call(desk: Desk, image: bytes, name: str, *inputs: str) -> TaskResult:
    """Give the task as Propeller does: on the topic that all share, with the image in it."""
    task_id = f"{name}-{len(desk.peer.heard(desk.topics.proplet_results))}"
    start = TaskStart(task_id, name, desk.proplet_id, "", {}, file=image, inputs=inputs)
    desk.peer.publish(desk.topics.task_start, start.encode())
    return desk.result(task_id)


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
        (OTHERS, "half", ["1"], "no whole number"),
        (OTHERS, "endless", [], "instructions"),
        (say("hello"), "greet", ["1"], "more inputs"),
    ],
)
def test_what_does_not_fit_is_the_tasks_error(
    board: Board, desk: Desk, image: bytes, name: str, inputs: list[str], words: str
) -> None:
    assert words in call(desk, image, name, *inputs).error
