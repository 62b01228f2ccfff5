"""Members that are cut off from the broker, before a round and in the middle of one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.faults.expected import HYPERPARAMS
from tests.faults.network import Network, network
from tests.faults.processes import HOST, SERVICES, running
from tests.faults.rounds import FULL, Rounds
from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at

BEFORE_S = 10.0
IN_THE_MIDDLE_S = 600.0 if FULL else 10.0
DEADLINE_S = 900.0 if FULL else 120.0

LONG_TRAINING = {**HYPERPARAMS, "epochs": 10_000}  # half a second or more
QUICK = (  # so that ten seconds are as long to the members as minutes are
    "broker.keepalive_s=2",
    "manager.liveness_timeout_s=3",
)


@pytest.mark.timeout(1500 if FULL else 240)
@pytest.mark.parametrize("victim", [HOST, "coordinator", "manager"])
def test_a_partition_costs_nothing_but_time(
    nats: RunningBroker, tmp_path: Path, victim: str
) -> None:
    with network(nats.address) as net, peer_at(nats.address) as peer:
        ways = {name: net.way(name) for name in (*SERVICES, HOST)}
        settings = () if FULL else QUICK
        rounds = Rounds(tmp_path, peer, hyperparams=LONG_TRAINING, timeout_s=DEADLINE_S)
        with running(tmp_path, nats, ways=ways, settings=settings):
            net.part(victim)
            rounds.start()
            stay_away(net, victim, BEFORE_S)
            assert rounds.is_open
            rounds.wait_complete()

            rounds.start()
            rounds.wait_launched()
            net.part(victim)
            stay_away(net, victim, IN_THE_MIDDLE_S)
            assert rounds.is_open
            rounds.wait_complete()

            rounds.judge()


def stay_away(net: Network, victim: str, duration_s: float) -> None:
    healing = threading.Timer(duration_s, net.heal, [victim])
    healing.start()
    healing.join()
