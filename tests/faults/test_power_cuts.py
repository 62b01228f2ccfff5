"""A board loses its power at random moments of rounds that it takes part in.

It is the firmware as Zephyr builds it for this machine, with a flash that outlives it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.boards import Board, make_board
from propeller_fl.firmware import DeviceSetup, build_firmware, find_board, missing_for_board
from tests.faults.expected import HYPERPARAMS
from tests.faults.processes import running
from tests.faults.rounds import FULL, SEED, Rounds
from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at

CUTS = 20 if FULL else 3
LATEST_CUT_S = 0.3  # its part of a round takes about this
TRAINING = {**HYPERPARAMS, "epochs": 200}
BOARD = "mcu-1"
HOSTED = ("proplet-1", "proplet-2")
CONNECT_S = 60.0


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """With the firmware on it, not yet started."""
    spec = find_board("native_sim")
    lacking = missing_for_board(spec)
    if lacking:
        pytest.skip(f"no firmware for {spec.target} here: {'; '.join(map(str, lacking))}")
    board = make_board(spec, tmp_path / "board")
    board.flash(build_firmware(spec))
    yield board
    board.finish()


@pytest.mark.firmware
@pytest.mark.timeout(900 if FULL else 240, func_only=True)  # a build is none of its time
def test_a_board_without_power_at_any_moment_costs_nothing(
    board: Board, nats: RunningBroker, tmp_path: Path
) -> None:
    rng = random.Random(f"{SEED} power")
    with (
        running(tmp_path, nats, proplets=HOSTED, boards=[BOARD]),
        peer_at(nats.address) as peer,
    ):
        board.start(DeviceSetup(BOARD, nats.address, tmp_path / "data" / f"{BOARD}.json"))
        board.console.expect("connected to the broker", CONNECT_S)
        rounds = Rounds(tmp_path, peer, proplets=(*HOSTED, BOARD), hyperparams=TRAINING)
        for _ in range(CUTS):
            cut = threading.Timer(rng.uniform(0, LATEST_CUT_S), board.power_cut)
            cut.start()
            rounds.start()
            cut.join()
            board.reset()
            rounds.wait_complete()
        rounds.judge()
