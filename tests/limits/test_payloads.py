"""Payloads of exactly as many bytes as may be, and of one more; and what their sender is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from propeller_fl.errors import MessageError
from tests.support.brokers import RunningBroker
from tests.support.foreign import ForeignClient
from tests.support.peers import Peer, peer_at
from tests.support.rounds import (
    MEAN,
    PROPLETS,
    open_round,
    send_update,
    start_message,
    update_message,
    wait_accepted,
    wait_completed,
)
from tests.support.services import Service, running

from .conftest import Deployment, run_round

MESSAGE_BYTES = 8 * 1024 * 1024
BROKER_BYTES = MESSAGE_BYTES + 256 * 1024  # what the embedded broker takes, topic and all
UPDATE_BYTES = 20_000  # as the fixture sets it
WASM = b"\0asm\1\0\0\0"


def padded(message: dict[str, object], size_bytes: int) -> bytes:
    """The message in exactly that many bytes."""
    return json.dumps(message).encode().ljust(size_bytes)


def test_at_the_limit_and_one_byte_over(deployment: Deployment, peer: Peer) -> None:
    an_update(peer)
    an_image(peer, deployment.directory)
    a_round_start(peer)
    a_foreign_message(deployment, peer)
    run_round(peer, "r-after")
    assert all(service.running for service in deployment.services)


def an_update(peer: Peer) -> None:
    open_round(peer, "r-update", participants=["a", "b"], k_of_n=2)
    for proplet_id, size_bytes in (("a", UPDATE_BYTES), ("b", UPDATE_BYTES + 1)):
        payload = padded(update_message(proplet_id, round_id="r-update"), size_bytes)
        peer.publish(f"fl/rounds/r-update/updates/{proplet_id}", payload)
    assert peer.wait_for("fl/rounds/r-update/acks/a")["status"] == "accepted"
    ack = peer.wait_for("fl/rounds/r-update/acks/b")
    assert (ack["status"], ack["reason"]) == ("refused", "too_large")
    assert f"has {UPDATE_BYTES + 1} bytes, at most {UPDATE_BYTES} go in" in ack["detail"]


def an_image(peer: Peer, directory: Path) -> None:
    for round_id, size_bytes, ready in (
        ("r-image", MESSAGE_BYTES, True),
        ("r-image-over", MESSAGE_BYTES + 1, False),
    ):
        path = directory / f"{round_id}.wasm"
        path.write_bytes(WASM.ljust(size_bytes, b"\0"))
        open_round(peer, round_id, participants=["away"], k_of_n=1, task_wasm_image=str(path))
        report = peer.wait_for(
            f"fl/rounds/{round_id}/launch", lambda r: r["absent"] or r["error"], timeout_s=30
        )
        if ready:
            assert (report["absent"], report["error"]) == (["away"], "")
        else:
            assert f"{size_bytes} bytes" in report["error"]
            assert f"over the limit of {MESSAGE_BYTES} bytes" in report["error"]


def a_round_start(peer: Peer) -> None:
    start = start_message("r-start", participants=["away"], k_of_n=1)
    with pytest.raises(MessageError, match=f"over the limit of {MESSAGE_BYTES} bytes"):
        peer.publish("fl/rounds/start", padded(start, MESSAGE_BYTES + 1))
    peer.subscribe("fl/rounds/r-start/status")
    peer.publish("fl/rounds/start", padded(start, MESSAGE_BYTES))
    peer.wait_for("fl/rounds/r-start/status", lambda s: s["phase"] == "open", timeout_s=30)


def a_foreign_message(deployment: Deployment, peer: Peer) -> None:
    """From a client that has no limit of its own, for the coordinator's topic."""
    open_round(peer, "r-foreign", participants=["a"], k_of_n=1)
    update = update_message("a", round_id="r-foreign")
    embedded = (deployment.directory / "broker").exists()
    with ForeignClient(deployment.broker.address) as foreign:
        taken = foreign.publish(b"fml/updates", padded(update, BROKER_BYTES + 1))
        assert taken is not embedded  # ours hangs up; mosquitto takes 256 MiB
        assert foreign.publish(b"fml/updates", padded(update, MESSAGE_BYTES))
    ack = peer.wait_for("fl/rounds/r-foreign/acks/a", timeout_s=30)
    assert (ack["status"], ack["reason"]) == ("refused", "too_large")


def test_a_model(nats: RunningBroker, tmp_path: Path) -> None:
    size_bytes = len(json.dumps(MEAN | {"version": 1}, separators=(",", ":")))
    others = [Service(tmp_path, nats.address, name) for name in ("manager", "model-server")]
    with running(*others), peer_at(nats.address) as peer:
        for round_id, limit_bytes in (("r-1", size_bytes), ("r-2", size_bytes - 1)):
            limit = f"coordinator.max_model_bytes={limit_bytes}"
            with running(Service(tmp_path, nats.address, "coordinator", settings=[limit])):
                open_round(peer, round_id)
                for proplet_id in PROPLETS:
                    send_update(peer, proplet_id, round_id=round_id)
                    wait_accepted(peer, proplet_id, round_id=round_id)
                if limit_bytes == size_bytes:
                    wait_completed(peer)
                    continue
                complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=30)
                assert (complete["status"], complete["model_version"]) == ("failed", 0)
                assert f"has {size_bytes} bytes" in complete["detail"]
                assert f"at most {limit_bytes} are published" in complete["detail"]
                assert "coordinator.model_format" in complete["detail"]
