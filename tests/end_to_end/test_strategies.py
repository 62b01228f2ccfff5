"""A strategy that remembers, through the whole system and a restart of all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from propeller_fl.learn import HeldUpdates, State, strategy
from propeller_fl.wire import Model, Update, flatten, model_uri, shapes_of
from tests.support.brokers import RunningBroker, embedded_broker
from tests.support.peers import Peer, peer_at

ARGS = {"lr": 0.2, "tau": 0.01}
NAMES = ("proplet-1", "proplet-2", "proplet-3")


def run_round(peer: Peer, number: int, updates: dict[int, list[Update]]) -> Model:
    """Round number, on the model before it; its updates are noted."""
    round_id = f"r-{number}"
    peer.subscribe(f"fl/rounds/{round_id}/+", f"fl/rounds/{round_id}/updates/+", "fl/models/+")
    message: dict[str, Any] = {
        "round_id": round_id,
        "model_uri": model_uri(number - 1),
        "task_wasm_image": "builtin:linear",
        "participants": NAMES,
        "hyperparams": {"epochs": 1, "lr": 0.1},
        "k_of_n": len(NAMES),
        "timeout_s": 30,
        "strategy": "fedadam",
        "strategy_args": ARGS,
    }
    peer.publish("fl/rounds/start", message)
    complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=40)
    assert complete["status"] == "complete", complete
    updates[number] = [
        Update.decode(peer.heard(f"fl/rounds/{round_id}/updates/{name}")[0]) for name in NAMES
    ]
    peer.wait_for(model_uri(number))
    return Model.decode(peer.heard(model_uri(number))[0])


def test_adam_goes_on_where_it_was_after_everything_was_started_again(tmp_path: Path) -> None:
    with embedded_broker(tmp_path) as nats:
        _run_and_compare(nats, tmp_path)


def _run_and_compare(nats: RunningBroker, tmp_path: Path) -> None:
    flags = {
        "data_dir": str(tmp_path / "state"),
        "broker.url": f"mqtt://{nats.address.host}:{nats.address.port}",
        "model_server.models_dir": str(tmp_path / "models"),
        "model_server.http_port": 0,
    }
    settings = config.load(environ={}, flags=flags)
    updates: dict[int, list[Update]] = {}
    found: list[Model] = []
    with peer_at(nats.address) as peer:
        for number in (1, 2):
            with Deployment(settings, Role.SERVICES | Role.PROPLETS):
                found.append(run_round(peer, number, updates))
        peer.wait_for(model_uri(0))
        base = Model.decode(peer.heard(model_uri(0))[0])
    shapes = shapes_of(base.tensors)
    vector, state, chosen = flatten(base.tensors, shapes), State(), strategy("fedadam", ARGS)
    for number, model in enumerate(found, start=1):
        vectors = np.stack([flatten(update.tensors, shapes) for update in updates[number]])
        held = HeldUpdates(vectors, [update.num_samples for update in updates[number]])
        result = chosen.aggregate(vector, held, state)
        vector, state = result.model.astype(np.float32), result.state
        np.testing.assert_array_equal(flatten(model.tensors, shapes), vector)
