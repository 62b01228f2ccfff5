"""Brokers that end in the middle of a round and remember nothing of it, or not the latest.

What they had acknowledged is gone: retained messages, sessions, and all that waited for somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.processes import Processes, running
from tests.faults.rounds import Rounds
from tests.support.brokers import MOSQUITTO_DURABLE, RunningBroker, mosquitto
from tests.support.peers import Peer, peer_at

LATE = "proplet-3"
FORGETFUL = "persistence false\n"
DEBIANS = "persistence true\n"  # saves when it ends, and every half hour

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Memory:
    """A mosquitto with this configuration, ended in this way; ``old``: it has saved us before."""

    config: str
    end: Callable[[RunningBroker], None]
    old: bool = False


def stop(broker: RunningBroker) -> None:
    broker.stop()


def kill(broker: RunningBroker) -> None:
    broker.kill()


MEMORIES = {
    "none": Memory(FORGETFUL, kill),
    "old": Memory(DEBIANS, kill, old=True),
    "saved at its end": Memory(DEBIANS, stop),
    "saved at every change": Memory(MOSQUITTO_DURABLE, kill),
}


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_what_was_retained_is_retained_again(memory: Memory, tmp_path: Path) -> None:
    """A proplet that comes late needs all of it: the image, the model, its task."""
    with stage(tmp_path, memory.config) as (broker, processes, _, rounds):
        if memory.old:
            broker.stop()
            broker.start()
        processes[LATE].kill()
        round_id = rounds.start()
        rounds.wait_open(accepted=2)

        memory.end(broker)
        broker.start()

        with peer_at(broker.address) as newcomer:
            topics = (
                "fl/models/global_model_v0",
                f"fl/rounds/{round_id}/launch",
                f"fl/rounds/{round_id}/status",
            )
            newcomer.subscribe(*topics)
            for topic in topics:
                newcomer.wait_for(topic, timeout_s=60)
        processes[LATE].start()
        rounds.wait_complete()
        rounds.judge()


def test_how_a_round_ended_is_said_again(tmp_path: Path) -> None:
    with stage(tmp_path, FORGETFUL) as (broker, _, _, rounds):
        round_id = rounds.start()
        rounds.wait_complete()

        forget(broker)

        with peer_at(broker.address) as newcomer:
            topics = [f"fl/rounds/{round_id}/{what}" for what in ("complete", "status")]
            newcomer.subscribe(*topics)
            ends = [newcomer.wait_for(topic, timeout_s=60) for topic in topics]
        assert [end.get("status", end.get("phase")) for end in ends] == ["complete", "complete"]
        rounds.judge()


def test_updates_that_waited_for_the_coordinator(tmp_path: Path) -> None:
    with stage(tmp_path, FORGETFUL) as (broker, processes, peer, rounds):
        processes[LATE].kill()
        rounds.start()
        rounds.wait_open(accepted=2)
        processes["coordinator"].kill()
        peer.subscribe("fml/updates")
        processes[LATE].start()
        peer.wait_for("fml/updates", lambda m: m["proplet_id"] == LATE, timeout_s=60)

        forget(broker)

        processes["coordinator"].start()
        rounds.wait_complete()
        rounds.judge()


@contextmanager
def stage(directory: Path, config: str) -> Iterator[tuple[RunningBroker, Processes, Peer, Rounds]]:
    """A deployment on a mosquitto, and the operator's side."""
    with (
        mosquitto(directory, config=config) as broker,
        peer_at(broker.address) as peer,
        running(directory, broker, apart=[LATE]) as processes,
    ):
        yield broker, processes, peer, Rounds(directory, peer)


def forget(broker: RunningBroker) -> None:
    broker.kill()
    broker.start()
