"""Firmware proplets beside Wasmtime ones, in rounds on the digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hil_tests.bench import Bench
from hil_tests.boards import Board, WestBoard
from hil_tests.desk import WAIT_S
from hil_tests.fleet import HYPERPARAMS, Fleet, digits_fleet
from propeller_fl.firmware import BoardKind
from tests.support.brokers import RunningBroker
from tests.support.peers import Peer

ROUNDS_MAX = 10
TARGET_ACCURACY = 0.95
FLEET_SIZE = 10


def join(fleet: Fleet, boards: list[Board]) -> None:
    for proplet_id, board in zip(fleet.boards, boards, strict=True):
        board.start(fleet.setup(proplet_id))
    for board in boards:
        board.console.expect("connected to the broker", WAIT_S)


def long_training(bench: Bench) -> dict[str, object]:
    """Hyperparameters with which a board is still at it when something happens to it."""
    return {**HYPERPARAMS, "epochs": 30 if bench.spec.kind is BoardKind.NATIVE else 10}


def test_firmware_and_wasmtime_complete_a_round(
    new_board: Callable[..., Board], nats: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with digits_fleet(tmp_path, nats.address, peer, hosted=2, boards=["mcu-1"]) as fleet:
        board = new_board()
        join(fleet, [board])

        fleet.start_round("r-1")
        complete = fleet.completion("r-1")

        board.console.expect("update accepted", WAIT_S)
    assert complete["status"] == "complete"
    assert complete["num_updates"] == 3
    assert complete["missing"] == []
    assert complete["refused"] == {}
    assert peer.heard("fl/rounds/r-1/updates/mcu-1")


def test_the_digits_are_learned_with_boards_in_the_fleet(
    bench: Bench, new_board: Callable[..., Board], nats: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    ids = [f"mcu-{number}" for number in range(1, min(2, bench.size) + 1)]
    hosted = FLEET_SIZE - len(ids)
    accuracies = []
    with digits_fleet(tmp_path, nats.address, peer, hosted=hosted, boards=ids) as fleet:
        join(fleet, [new_board(number=number) for number in range(len(ids))])
        for version in range(ROUNDS_MAX):
            fleet.start_round(f"r-{version + 1}", version)
            complete = fleet.completion(f"r-{version + 1}")
            assert complete["num_updates"] == FLEET_SIZE, complete
            accuracies.append(fleet.accuracy(version + 1))
            if accuracies[-1] >= TARGET_ACCURACY:
                break

    assert accuracies[-1] >= TARGET_ACCURACY, accuracies


def test_a_broker_that_restarts_mid_round_costs_nothing(
    bench: Bench, new_board: Callable[..., Board], nats: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with digits_fleet(tmp_path, nats.address, peer, hosted=2, boards=["mcu-1"]) as fleet:
        board = new_board()
        join(fleet, [board])
        fleet.start_round("r-1", hyperparams=long_training(bench))
        board.console.expect("task .*: running", WAIT_S)

        nats.kill()
        board.console.expect("the connection to the broker is lost", WAIT_S)
        nats.start()

        board.console.expect("connected to the broker", WAIT_S)
        complete = fleet.completion("r-1")
    assert complete["status"] == "complete"
    assert complete["num_updates"] == 3


def test_a_board_that_loses_power_mid_round_is_back_in_it(
    bench: Bench, new_board: Callable[..., Board], nats: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with digits_fleet(tmp_path, nats.address, peer, hosted=2, boards=["mcu-1"]) as fleet:
        board = new_board()
        join(fleet, [board])
        fleet.start_round("r-1", hyperparams=long_training(bench))
        board.console.expect("task .*: running", WAIT_S)

        if not isinstance(board, WestBoard) or board.can_cut_power:
            board.power_cut()
        board.reset()

        board.console.expect("connected to the broker", WAIT_S)
        complete = fleet.completion("r-1")
    assert complete["status"] == "complete"
    assert complete["num_updates"] == 3
