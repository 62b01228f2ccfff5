"""A board boots, joins, and is missed when it has gone."""

from __future__ import annotations

from hil_tests.bench import Bench
from hil_tests.boards import Board, WestBoard
from hil_tests.desk import PROPLET_ID, WAIT_S, Desk


def test_it_boots_and_introduces_itself(bench: Bench, board: Board, desk: Desk) -> None:
    discovery, alive = desk.discovery(), desk.alive()

    assert discovery["metadata"]["runtime"] == "wamr"
    assert discovery["metadata"]["os"] == "zephyr"
    assert discovery["metadata"]["board"] == bench.spec.zephyr_board
    assert discovery["metadata"]["own_start_topic"] == "true"
    assert alive["status"] == "alive"


def test_after_a_reset_it_is_back(board: Board, desk: Desk) -> None:
    board.reset()

    board.console.expect(f"proplet_id {PROPLET_ID}", WAIT_S)
    board.console.expect("connected to the broker", WAIT_S)
    desk.await_arrival(2)


def test_without_power_it_is_missed(board: Board, desk: Desk) -> None:
    if isinstance(board, WestBoard) and not board.can_cut_power:
        board.reset()  # the broker sees the old session end
    else:
        board.power_cut()

    desk.await_offline()
