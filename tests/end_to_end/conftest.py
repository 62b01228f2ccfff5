"""A whole deployment of ours on each broker, and a peer that looks on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from tests.support.brokers import RunningBroker
from tests.support.peers import Peer, peer_at


@dataclass(frozen=True)
class Fleet:
    """Three proplets and the services around them, with the test as operator."""

    peer: Peer
    models_dir: Path

    def start(self, round_id: str, image: str, **changes: Any) -> None:
        """Ask for a round and return at once."""
        self.peer.subscribe(f"fl/rounds/{round_id}/+", f"fl/rounds/{round_id}/acks/+")
        message = {
            "round_id": round_id,
            "model_uri": "fl/models/global_model_v0",
            "task_wasm_image": image,
            "participants": ["proplet-1", "proplet-2", "proplet-3"],
            "hyperparams": {"epochs": 1, "lr": 0.1, "batch_size": 16},
            "k_of_n": 3,
            "timeout_s": 30,
        } | changes
        self.peer.publish("fl/rounds/start", message)

    def completion(self, round_id: str, timeout_s: float = 40) -> Any:
        return self.peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=timeout_s)


@pytest.fixture
def fleet(broker: RunningBroker, tmp_path: Path) -> Iterator[Fleet]:
    address = broker.address
    flags = {
        "data_dir": str(tmp_path / "state"),
        "broker.url": f"mqtt://{address.host}:{address.port}",
        "model_server.models_dir": str(tmp_path / "models"),
        "model_server.http_port": 0,
        "proplet.wall_time_s": 2,
        "proplet.resend_after_s": 1,
    }
    settings = config.load(environ={}, flags=flags)
    with Deployment(settings, Role.SERVICES | Role.PROPLETS), peer_at(address) as peer:
        yield Fleet(peer, tmp_path / "models")
