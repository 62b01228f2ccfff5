"""The coordinator is killed while it stops a round: it has stopped once, and for good."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

from tests.faults.points import STOPPING
from tests.faults.processes import Process
from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at
from tests.support.rounds import start_message, update_message

WHY = "stopped by operator: the data are wrong"
V0 = {"w": [0.0, 0.0, 0.0], "b": 0.0, "version": 0}


def test_killed_at_every_point_of_a_stop_the_round_is_stopped_once(
    nats: RunningBroker, tmp_path: Path
) -> None:
    coordinator = Process("coordinator", tmp_path, nats.address, ["coordinator"])
    points = list(STOPPING)
    names = [f"r-{number}" for number in range(len(points))]
    with peer_at(nats.address) as peer, contextlib.ExitStack() as stack:
        stack.callback(coordinator.stop)
        peer.publish("fl/models/global_model_v0", V0, retain=True)
        coordinator.start(kill_at=points[0])
        for round_id, point, next_point in zip(names, points, [*points[1:], ""], strict=True):
            coordinator.wait_ready()
            peer.subscribe(f"fl/rounds/{round_id}/+", f"fl/rounds/{round_id}/acks/+")
            peer.publish("fl/rounds/start", start_message(round_id))
            status = f"fl/rounds/{round_id}/status"
            peer.wait_for(status, lambda said: said["phase"] == "open", timeout_s=60)
            peer.publish("fml/updates", update_message("proplet-1", round_id=round_id))
            peer.wait_for(f"fl/rounds/{round_id}/acks/proplet-1", timeout_s=60)
            coordinator.arm()
            stop = {"round_id": round_id, "reason": "the data are wrong"}
            peer.publish(f"fl/rounds/{round_id}/stop", stop)
            coordinator.wait_killed_at(point)
            coordinator.start(kill_at=next_point)
            peer.wait_for(status, lambda said: said["phase"] == "failed", timeout_s=60)
            complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=60)
            assert (complete["status"], complete["detail"]) == ("failed", WHY), point
            assert len(set(peer.heard(f"fl/rounds/{round_id}/complete"))) == 1, point
    with contextlib.closing(sqlite3.connect(tmp_path / "coordinator" / "rounds.db")) as database:
        ended = database.execute("SELECT phase, detail, complete FROM rounds").fetchall()
        [(updates,)] = database.execute("SELECT count(*) FROM updates")
        versions = database.execute("SELECT version FROM models").fetchall()
    assert [(phase, detail) for phase, detail, _ in ended] == [("failed", WHY)] * len(points)
    assert {json.loads(complete)["num_updates"] for *_, complete in ended} == {1}
    assert (updates, versions) == (len(points), [(0,)])
