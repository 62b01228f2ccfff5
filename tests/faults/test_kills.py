"""Processes are killed at random moments of every round; in the end it is as if they had not been.

A short run by default; `make faults` kills some hundreds. A failure names the seed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.faults.expected import HYPERPARAMS, models
from tests.faults.processes import PROPLETS, Processes, running
from tests.support.peers import peer_at
from tests.support.wait import wait_until

FULL = os.environ.get("PROPELLER_FAULTS") == "full"
KILLS = {
    "coordinator": 200 if FULL else 6,
    "broker": 50 if FULL else 3,
    "proplet-2": 50 if FULL else 3,
    "manager": 50 if FULL else 3,
    "model-server": 50 if FULL else 3,
}
LATEST_KILL_S = {"coordinator": 0.15, "broker": 0.15, "proplet-2": 0.15}  # rounds take about this
SEED = int(os.environ.get("PROPELLER_FAULTS_SEED", "1"))


@pytest.mark.timeout(1800 if FULL else 180)
@pytest.mark.parametrize("victim", KILLS)
def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path, victim: str) -> None:
    rng = random.Random(f"{SEED} {victim}")
    round_ids = [f"r-{number:04d}" for number in range(1, KILLS[victim] + 1)]
    with running(tmp_path) as processes, peer_at(processes.address) as peer:
        for number, round_id in enumerate(round_ids):
            peer.subscribe(f"fl/rounds/{round_id}/complete")
            timer = kill_after(processes, victim, rng.uniform(0, LATEST_KILL_S.get(victim, 0.15)))
            message = {
                "round_id": round_id,
                "model_uri": f"fl/models/global_model_v{number}",
                "task_wasm_image": "builtin:linear",
                "participants": list(PROPLETS),
                "hyperparams": HYPERPARAMS,
                "k_of_n": len(PROPLETS),
                "timeout_s": 120,
            }
            peer.publish("fl/rounds/start", message)
            complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=100)
            timer.join()
            context = f"seed {SEED}, round {round_id}"
            assert complete["status"] == "complete", f"{context}: {complete}"
            assert complete["num_updates"] == len(PROPLETS), context
            assert complete["model_version"] == number + 1, context
        last = tmp_path / "models" / f"global_model_v{len(round_ids)}.json"
        wait_until(last.exists, 30, "the model server has the last model")

    database = sqlite3.connect(tmp_path / "coordinator" / "rounds.db")
    kept = database.execute("SELECT count(*) FROM updates").fetchone()[0]
    assert kept == len(round_ids) * len(PROPLETS), "updates in = updates in the aggregate"
    made = [
        body
        for (body,) in database.execute(
            "SELECT body FROM models WHERE round_id IS NOT NULL ORDER BY version"
        )
    ]
    database.close()
    assert made == models(round_ids, PROPLETS, tmp_path), f"seed {SEED}"
    stored = [
        (tmp_path / "models" / f"global_model_v{version}.json").read_bytes()
        for version in range(1, len(round_ids) + 1)
    ]
    assert stored == made


def kill_after(processes: Processes, victim: str, delay_s: float) -> threading.Timer:
    timer = threading.Timer(delay_s, processes.kill_and_restart, [victim])
    timer.start()
    return timer
