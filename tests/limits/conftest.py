"""Every service as a process of its own, and rounds that show that nobody is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import RunningBroker, nats
from tests.support.peers import Peer, peer_at
from tests.support.rounds import PROPLETS, start_message
from tests.support.services import Service, running

__all__ = ["nats"]


class Deployment:
    """Coordinator, manager, model server and a host of three proplets."""

    def __init__(self, directory: Path, broker: RunningBroker, *, log_json: bool = False) -> None:
        self.directory = directory
        self.broker = broker
        self.coordinator, self.manager, self.model_server = (
            Service(directory, broker.address, name, settings=settings, log_json=log_json)
            for name, settings in (
                ("coordinator", ["coordinator.max_update_bytes=20000"]),
                ("manager", []),
                ("model-server", []),
            )
        )
        self.proplets = Service(
            directory,
            broker.address,
            "proplet",
            *PROPLETS,
            settings=["proplet.heartbeat_s=1", "proplet.resend_after_s=1"],
            log_json=log_json,
        )

    @property
    def services(self) -> tuple[Service, ...]:
        return self.coordinator, self.manager, self.model_server, self.proplets


@pytest.fixture
def deployment(broker: RunningBroker, tmp_path: Path) -> Iterator[Deployment]:
    """On each broker in turn."""
    made = Deployment(tmp_path, broker)
    with running(*made.services):
        yield made


@pytest.fixture
def peer(deployment: Deployment) -> Iterator[Peer]:
    """An operator and onlooker; model 0 is there."""
    with peer_at(deployment.broker.address) as peer:
        peer.subscribe("fl/models/+")
        peer.wait_for("fl/models/global_model_v0", timeout_s=30)
        yield peer


def run_round(peer: Peer, round_id: str) -> None:
    """A round of the real proplets goes well."""
    peer.subscribe(f"fl/rounds/{round_id}/complete")
    peer.publish("fl/rounds/start", start_message(round_id))
    complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=60)
    assert (complete["status"], complete["num_updates"]) == ("complete", 3), complete
