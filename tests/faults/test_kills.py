"""Processes are killed at random moments of every round; in the end it is as if they had not been.

A short run by default; `make faults` kills some hundreds. A failure names the seed.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.faults.processes import Processes, running
from tests.faults.rounds import FULL, SEED, Rounds
from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres

KILLS = {
    "coordinator": 200 if FULL else 6,
    "broker": 50 if FULL else 3,
    "proplet-2": 50 if FULL else 3,
    "manager": 50 if FULL else 3,
    "model-server": 50 if FULL else 3,
}
ON_POSTGRESQL = 50
APART = ("proplet-2",)
LATEST_KILL_S = 0.15  # rounds take about this


@pytest.mark.timeout(1800 if FULL else 180)
@pytest.mark.parametrize("victim", KILLS)
def test_killed_at_any_moment_nothing_is_lost(
    nats: RunningBroker, tmp_path: Path, victim: str
) -> None:
    with running(tmp_path, nats, apart=APART) as processes, peer_at(nats.address) as peer:
        rounds = Rounds(tmp_path, peer)
        kill_again_and_again(processes, rounds, victim, KILLS[victim])
        rounds.judge()


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not FULL, reason="make faults")
def test_so_it_is_with_rounds_in_postgresql(
    nats: RunningBroker, postgres: PostgresServer, tmp_path: Path
) -> None:
    database = postgres.new_place()
    settings = (
        f"coordinator.database_url={database.url}",
        f"coordinator.database_password_file={database.password_file}",
    )
    with (
        running(tmp_path, nats, settings=settings) as processes,
        peer_at(nats.address) as peer,
    ):
        rounds = Rounds(tmp_path, peer)
        kill_again_and_again(processes, rounds, "coordinator", ON_POSTGRESQL)
        rounds.judge(lambda sql: postgres.execute(database, sql))


def kill_again_and_again(processes: Processes, rounds: Rounds, victim: str, kills: int) -> None:
    """In a round of its own each, at a random moment."""
    rng = random.Random(f"{SEED} {victim}")
    for _ in range(kills):
        delay_s = rng.uniform(0, LATEST_KILL_S)
        killer = threading.Timer(delay_s, processes.kill_and_restart, [victim])
        killer.start()
        rounds.start()
        rounds.wait_complete()
        killer.join()
