"""Each process is killed at every named point of its work: a round for each, and none the worse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.points import POINTS
from tests.faults.processes import running
from tests.faults.rounds import FULL, Rounds
from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at

AGAIN = (  # these are passed once for each of the three proplets
    "manager.between-two-tasks:2",
    "manager.update-forwarded-before-the-broker-knows:2",
    "manager.update-forwarded-before-the-broker-knows:3",
)
ROUNDS = 3 if FULL else 1  # for each point
APART = ("proplet-2",)
MEMBERS = sorted({name.partition(".")[0] for name in POINTS})


@pytest.mark.timeout(900 if FULL else 240)
@pytest.mark.parametrize("member", MEMBERS)
def test_killed_at_every_point_nothing_is_lost(
    nats: RunningBroker, tmp_path: Path, member: str
) -> None:
    points = [name for name in (*POINTS, *AGAIN) if name.startswith(f"{member}.")] * ROUNDS
    with running(tmp_path, nats, apart=APART) as processes, peer_at(nats.address) as peer:
        rounds = Rounds(tmp_path, peer)
        victim = processes[member]
        victim.kill()
        victim.start(kill_at=points[0])
        for point, next_point in zip(points, [*points[1:], ""], strict=True):
            victim.wait_ready()
            victim.arm()
            rounds.start()
            victim.wait_killed_at(point)
            victim.start(kill_at=next_point)
            rounds.wait_complete()
        rounds.judge()
