"""Waiting for a line on a console."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.console import Console, ConsoleError, ForbiddenOutput


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "board.log"


@pytest.fixture
def console(log: Path) -> Iterator[Console]:
    console = Console(log)
    yield console
    console.close()


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_finds_what_is_there_already(console: Console, log: Path) -> None:
    append(log, "booted\nid is mcu-7\n")

    assert console.expect(r"id is (\S+)\n", timeout_s=1)[1] == b"mcu-7"


def test_finds_what_comes_while_it_waits(console: Console, log: Path) -> None:
    append(log, "boo")
    later = threading.Timer(0.1, append, (log, "ted\n"))
    later.start()

    console.expect("booted", timeout_s=5)
    later.join()


def test_goes_on_behind_the_last_match(console: Console, log: Path) -> None:
    append(log, "run 1\nrun 2\n")

    assert [console.expect(r"run (\d)", timeout_s=1)[1] for _ in range(2)] == [b"1", b"2"]
    with pytest.raises(ConsoleError):
        console.expect(r"run (\d)", timeout_s=0)


def test_a_deadline_tells_pattern_last_lines_and_log(console: Console, log: Path) -> None:
    append(log, "".join(f"line {number}\n" for number in range(100)))

    with pytest.raises(ConsoleError) as failure:
        console.expect("never", timeout_s=0.1)

    message = str(failure.value)
    assert "0.1 s" in message
    assert "'never'" in message
    assert "line 99" in message
    assert "line 10\n" not in message
    assert str(log) in message


@pytest.mark.parametrize("bad", ["ZEPHYR FATAL ERROR 4: Kernel panic", "ASSERTION FAIL [x != 0]"])
def test_a_crash_fails_the_wait_before_its_deadline(console: Console, log: Path, bad: str) -> None:
    append(log, f"booted\n>>> {bad}\n")

    with pytest.raises(ForbiddenOutput, match="came while waiting for 'never'"):
        console.expect("never", timeout_s=3600)


def test_a_crash_after_the_match_is_for_the_next_wait(console: Console, log: Path) -> None:
    append(log, "booted\nFATAL ERROR\n")

    console.expect("booted", timeout_s=1)
    with pytest.raises(ForbiddenOutput):
        console.expect("connected", timeout_s=1)


def test_a_test_may_forbid_more(console: Console, log: Path) -> None:
    append(log, "lost\nconnected\n")

    with pytest.raises(ForbiddenOutput, match="'lost'"):
        console.expect("connected", timeout_s=1, not_matching=["lo.t"])


def test_a_board_that_ended_fails_the_wait_at_once(log: Path) -> None:
    append(log, "last words\n")
    console = Console(log, lambda: "its process ended with status 3")

    console.expect("last words", timeout_s=3600)
    with pytest.raises(ConsoleError, match="ended with status 3"):
        console.expect("more", timeout_s=3600)
    console.close()


def test_check_finds_a_crash_that_nobody_waited_for(console: Console, log: Path) -> None:
    append(log, "booted\n")
    console.expect("booted", timeout_s=1)
    console.check()

    append(log, "FATAL ERROR\n")

    with pytest.raises(ForbiddenOutput):
        console.check()
