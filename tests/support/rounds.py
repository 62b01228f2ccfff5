"""Messages of a small round, and who plays its proplets."""

from __future__ import annotations

from typing import Any, Final

from .peers import Peer

PROPLETS: Final = {"proplet-1": 1.0, "proplet-2": 2.0, "proplet-3": 5.0}  # what each has learned
MEAN: Final = {"w": [3.75, 7.5, 11.25], "b": -3.75}  # … by samples, to the bit


def start_message(round_id: str = "r-1", **changes: Any) -> dict[str, Any]:
    """A round of three on the model ``linear:3``."""
    return {
        "round_id": round_id,
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": "builtin:linear",
        "participants": list(PROPLETS),
        "hyperparams": {"epochs": 1, "lr": 0.1, "batch_size": 16},
        "k_of_n": 3,
        "timeout_s": 90,
    } | changes


def update_message(proplet_id: str, *, round_id: str = "r-1", **changes: Any) -> dict[str, Any]:
    """What it has learned, on ten times as many samples."""
    value = PROPLETS.get(proplet_id, 1.0)
    return {
        "round_id": round_id,
        "proplet_id": proplet_id,
        "base_model_uri": "fl/models/global_model_v0",
        "num_samples": int(10 * value),
        "metrics": {"loss": value},
        "update": {"w": [value, 2 * value, 3 * value], "b": -value},
    } | changes


def open_round(peer: Peer, round_id: str = "r-1", **changes: Any) -> None:
    """Ask for it, and wait until the coordinator has opened it."""
    peer.subscribe(f"fl/rounds/{round_id}/+", f"fl/rounds/{round_id}/acks/+", "fl/models/+")
    peer.wait_for("fl/models/global_model_v0", timeout_s=30)
    peer.publish("fl/rounds/start", start_message(round_id, **changes))
    status = f"fl/rounds/{round_id}/status"
    peer.wait_for(status, lambda s: s["phase"] == "open", timeout_s=30)


def send_update(peer: Peer, proplet_id: str, *, round_id: str = "r-1") -> None:
    """As the proplet would, to the manager."""
    topic = f"fl/rounds/{round_id}/updates/{proplet_id}"
    peer.publish(topic, update_message(proplet_id, round_id=round_id))


def wait_accepted(peer: Peer, proplet_id: str, *, round_id: str = "r-1") -> None:
    """Until the coordinator says that its update is durable."""
    topic = f"fl/rounds/{round_id}/acks/{proplet_id}"
    peer.wait_for(topic, lambda ack: ack["status"] == "accepted", timeout_s=30)


def wait_completed(peer: Peer, round_id: str = "r-1", version: int = 1) -> None:
    """Until the round has ended well, with the updates of all and the right model."""
    complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=60)
    assert complete["status"] == "complete", complete
    assert complete["num_updates"] == len(PROPLETS), complete
    model = peer.wait_for(f"fl/models/global_model_v{version}", timeout_s=60)
    assert model == MEAN | {"version": version}
