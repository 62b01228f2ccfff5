"""Somebody sets the machine's clock in the middle of a round.

A running coordinator's deadlines do not move: it looks at the clock once, when it starts. Between
two runs the clock is all there is, so there a deadline moves with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from propeller_fl.clock import steady_clock
from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator import Coordinator
from propeller_fl.link import Link, LinkLoop
from propeller_fl.store import RoundStore
from propeller_fl.wire import Topics
from tests.support.brokers import RunningBroker
from tests.support.peers import Peer, peer_at
from tests.support.rounds import MEAN, open_round, update_message, wait_accepted

DAY_S = 86_400.0
NOON_S = 1_700_000_000.0


class Machine:
    """What its clock shows, and how long it has been up; both as a test likes."""

    def __init__(self) -> None:
        self.wall_s = NOON_S
        self.up_s = 5.0

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.up_s += seconds

    def clock(self) -> Callable[[], float]:
        """That of a process that is started now."""
        return steady_clock(lambda: self.wall_s, lambda: self.up_s)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@contextlib.contextmanager
def coordinator(broker: RunningBroker, directory: Path, machine: Machine) -> Iterator[None]:
    """With the clock that a deployment gives it."""
    store = RoundStore(directory / "rounds.db")
    with LinkLoop() as loop:
        link = Link(loop, broker.address, "coordinator")
        service = Coordinator(link, Topics(), CoordinatorConfig(), store, clock=machine.clock())
        service.start()
        link.wait_connected(10)
        try:
            yield
        finally:
            service.stop()
            link.close()
            store.close()


@pytest.fixture
def peer(nats: RunningBroker) -> Iterator[Peer]:
    with peer_at(nats.address) as peer:
        zero = MEAN | {"w": [0.0, 0.0, 0.0], "b": 0.0, "version": 0}
        peer.publish("fl/models/global_model_v0", zero, retain=True)
        yield peer


def test_a_clock_is_looked_at_once(machine: Machine) -> None:
    clock = machine.clock()
    assert clock() == NOON_S
    machine.wall_s -= DAY_S
    machine.pass_time(2.5)
    assert clock() == NOON_S + 2.5
    assert machine.clock()() == NOON_S - DAY_S + 2.5
    assert abs(steady_clock()() - time.time()) < 60


@pytest.mark.parametrize("step_s", [-DAY_S, DAY_S])
def test_setting_the_clock_moves_no_deadline(
    nats: RunningBroker, peer: Peer, tmp_path: Path, machine: Machine, step_s: float
) -> None:
    with coordinator(nats, tmp_path, machine):
        open_round(peer, timeout_s=30)
        machine.wall_s += step_s
        machine.pass_time(29)
        peer.publish("fml/updates", update_message("proplet-1"))
        wait_accepted(peer, "proplet-1")
        assert peer.heard("fl/rounds/r-1/complete") == []
        machine.pass_time(2)
        complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=30)
    assert (complete["status"], complete["num_updates"]) == ("timeout", 1)


def test_between_two_runs_a_deadline_moves_with_the_clock(
    nats: RunningBroker, peer: Peer, tmp_path: Path, machine: Machine
) -> None:
    with coordinator(nats, tmp_path, machine):
        open_round(peer, timeout_s=30)
        peer.publish("fml/updates", update_message("proplet-1"))
        wait_accepted(peer, "proplet-1")
    machine.wall_s -= DAY_S
    with coordinator(nats, tmp_path, machine):  # a day more, and updates are taken
        peer.publish("fml/updates", update_message("proplet-2"))
        wait_accepted(peer, "proplet-2")
        assert peer.heard("fl/rounds/r-1/complete") == []
    machine.wall_s += 2 * DAY_S
    with coordinator(nats, tmp_path, machine):  # long over
        complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=30)
    assert (complete["status"], complete["num_updates"]) == ("timeout", 2)
