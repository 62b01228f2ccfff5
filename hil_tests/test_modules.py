"""What a module does wrong is that task's error and nobody else's: the proplet goes on."""

from __future__ import annotations

import hashlib
import re

import pytest

from hil_tests.boards import Board
from hil_tests.desk import WAIT_S, Desk
from propeller_fl.firmware import BoardKind
from tests.proplet.modules import ENDLESS, client, say, wasm

GOOD = say("done")
OVERSIZE_BYTES = 4 * 1024 * 1024  # more than any board keeps


def padded(image: bytes, size_bytes: int) -> bytes:
    """The same module with a custom section that makes it this large."""
    room = size_bytes - len(image) - 6  # the section's id and its size in five bytes
    size = bytes((room >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    return image + b"\x00" + size + b"\x01p" + bytes(room - 2)


LAYOUT = (
    '(memory (export "memory") 1)'
    ' (global (export "__heap_base") i32 (i32.const 8192))'
    ' (global (export "__data_end") i32 (i32.const 8192))'
)
BAD_IMPORT = wasm(
    '(module (import "wasi_snapshot_preview1" "clock_time_get"'
    f" (func (param i32 i64 i32) (result i32))) {LAYOUT}"
    ' (func (export "_start")))'
)
WRITES_FOR_EVER = client(
    "(loop $again (call $say (i32.const 1) (i32.const 0) (i32.const 8192)) (br $again))"
)
EXITS = client(
    "(call $say (i32.const 2) (i32.const 64) (i32.const 8)) (call $proc_exit (i32.const 3))",
    text="no data\\n",
)
GROWS = client("(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (unreachable)))")

FAULTS = {
    "trap": (client("unreachable"), "trap: .*unreachable"),
    "exit": (EXITS, "exit: .*3.*no data"),
    "out_of_bounds": (client("(i32.store (i32.const 1000000) (i32.const 1))"), "trap: .*bounds"),
    "behind_a_shrunk_memory": (
        wasm(
            '(module (memory (export "memory") 1)'
            ' (global (export "__heap_base") i32 (i32.const 1000))'
            ' (global (export "__data_end") i32 (i32.const 960))'
            ' (func (export "_start") (i32.store (i32.const 1000) (i32.const 1))))'
        ),
        "trap: .*bounds",
    ),
    "bad_import": (BAD_IMPORT, "contract: .*clock_time_get"),
    "no_start": (wasm(f"(module {LAYOUT})"), "contract: .*_start"),
    "start_that_returns": (
        wasm(f'(module {LAYOUT} (func (export "_start") (result i32) (i32.const 1)))'),
        "contract: .*_start",
    ),
    "start_section": (
        wasm(f'(module {LAYOUT} (func (export "_start")) (func $s (loop (br 0))) (start $s))'),
        "contract: .*start section",
    ),
    "early_export": (
        wasm(
            f'(module {LAYOUT} (func (export "_start"))'
            ' (func (export "__wasm_call_ctors") (loop (br 0))))'
        ),
        "contract: .*__wasm_call_ctors",
    ),
    "truncated": (GOOD[:-20], "contract: "),
    "garbage": (hashlib.sha512(b"garbage").digest() * 8, "contract: "),
    "output": (WRITES_FOR_EVER, "output: "),
    "memory": (GROWS, "memory: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_module_is_its_own_error(fault: str, board: Board, desk: Desk) -> None:
    image, error = FAULTS[fault]

    failed = desk.run(image)
    after = desk.run(GOOD)

    assert re.match(error, failed.error), failed.error
    assert failed.results == ""
    assert (after.results, after.error) == ("done", "")


def test_an_image_larger_than_its_place_is_refused_not_cut(board: Board, desk: Desk) -> None:
    failed = desk.run(padded(GOOD, OVERSIZE_BYTES))

    assert re.match("image: too_large", failed.error), failed.error
    assert desk.run(GOOD).results == "done"


def test_an_image_that_is_not_what_its_digest_says_is_not_run(board: Board, desk: Desk) -> None:
    asked_for = hashlib.sha256(GOOD).hexdigest()
    desk.image(say("evil"), sha256=asked_for)

    failed = desk.result(desk.task(asked_for))

    assert re.match("image: mismatch", failed.error), failed.error
    assert desk.run(GOOD).results == "done"


@pytest.mark.parametrize("variant", ["short-run"])
def test_an_endless_loop_is_stopped(board: Board, desk: Desk) -> None:
    task_id = desk.task(desk.image(ENDLESS))

    if board.spec.kind is BoardKind.NATIVE:  # time stands still there while a module runs
        failed = desk.result(task_id, timeout_s=WAIT_S)
        assert failed.error.startswith("instructions: "), failed.error
    else:
        begun = board.console.expect(rf"\[([\d:.,]+)\].*task {task_id}: running", WAIT_S)
        ended = board.console.expect(rf"\[([\d:.,]+)\].*task {task_id}: wall_time", WAIT_S)
        took_s = uptime_s(ended[1]) - uptime_s(begun[1])
        assert desk.result(task_id).error.startswith("wall_time: ")
        assert took_s < 3 + 1, "an endless loop is stopped within a second of its deadline"
    assert desk.run(GOOD).results == "done"


def uptime_s(stamp: bytes) -> float:
    """Seconds of a log line's time stamp, ``hours:minutes:seconds.milliseconds,microseconds``."""
    hours, minutes, seconds = stamp.decode().replace(",", "").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.mark.timeout(900, func_only=True)
def test_a_thousand_tasks_on_one_boot_leave_nothing_behind(board: Board, desk: Desk) -> None:
    sha256 = desk.image(GOOD)

    for _ in range(1000):
        assert desk.result(desk.task(sha256)).results == "done"

    log = board.console.log_path.read_text(errors="replace")
    high_water = re.findall(r"pool: at most (\d+) of", log)
    assert log.count("Booting Zephyr") == 1
    assert len(set(high_water)) == 1, "the pool's use has grown"  # a busy log drops some lines
    board.console.check()
