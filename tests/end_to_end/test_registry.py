"""Rounds whose module comes from a registry, a real one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from propeller_fl import config
from propeller_fl.config import RegistryConfig
from propeller_fl.deployment import Deployment, Role
from propeller_fl.manager import BuiltinImages
from propeller_fl.oci import ANNOTATION, Blobs, Reference, Registry
from propeller_fl.signing import PrivateKey, TrustedKeys, annotation, signed_message
from tests.support.brokers import RunningBroker, nats
from tests.support.peers import Peer, peer_at
from tests.support.registry import RunningRegistry, running_registry

__all__ = ["nats"]

LINEAR, SOFTMAX = (BuiltinImages().fetch(f"builtin:{name}") for name in ("linear", "softmax"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path / "registry") as running:
        yield running


def push(
    registry: RunningRegistry,
    directory: Path,
    module: bytes,
    signatures: dict[str, bytes] | None = None,
) -> str:
    """Let the tag stand for ``module``."""
    tag = f"oci://{registry.host}/lab/client:v1"
    client = Registry(RegistryConfig(), Blobs(directory / "pushed"), login=lambda host: None)
    annotations = {ANNOTATION: annotation(signatures)} if signatures else {}
    client.push(Reference.parse(tag), module, annotations)
    return tag


def deployment(broker: RunningBroker, directory: Path, *proplets: str, **more: Any) -> Deployment:
    flags: dict[str, Any] = {
        "data_dir": str(directory / "state"),
        "broker.url": f"mqtt://{broker.address.host}:{broker.address.port}",
        "model_server.models_dir": str(directory / "models"),
        "model_server.http_port": 0,
        "proplet.ids": ",".join(proplets),
        "proplet.resend_after_s": 1,
    } | {name.replace("__", "."): value for name, value in more.items()}
    return Deployment(config.load(environ={}, flags=flags), Role.SERVICES | Role.PROPLETS)


def start(peer: Peer, round_id: str, image: str, **changes: Any) -> None:
    peer.subscribe(f"fl/rounds/{round_id}/+", "control/manager/start/+", "control/proplet/results")
    message = {
        "round_id": round_id,
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": image,
        "participants": ["proplet-1", "proplet-2", "proplet-3"],
        "hyperparams": {"epochs": 1, "lr": 0.1, "batch_size": 16},
        "k_of_n": 3,
        "timeout_s": 300,
    }
    peer.publish("fl/rounds/start", message | changes)


def test_a_tag_that_moves_in_the_middle_of_a_round(
    nats: RunningBroker, registry: RunningRegistry, tmp_path: Path
) -> None:
    """Two of three have done their part; then the tag is moved and the manager starts again."""
    tag = push(registry, tmp_path, LINEAR)
    with peer_at(nats.address) as peer:
        with deployment(nats, tmp_path, "proplet-1", "proplet-2"):
            start(peer, "r-1", tag)
            peer.wait_for(
                "fl/rounds/r-1/status", lambda status: status["accepted"] == 2, timeout_s=90
            )
        push(registry, tmp_path, SOFTMAX)
        with deployment(nats, tmp_path, "proplet-3"):
            complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=90)
            assert (complete["status"], complete["num_updates"]) == ("complete", 3)
            tasks = [
                json.loads(payload)
                for n in "123"
                for payload in peer.heard(f"control/manager/start/proplet-{n}")
            ]
            assert {task["proplet_id"] for task in tasks} == {"proplet-1", "proplet-2", "proplet-3"}
            [r1_image] = {task["image_sha256"] for task in tasks}
            # The next round has the tag as it is now.
            start(peer, "r-2", tag, participants=["proplet-3"], k_of_n=1, timeout_s=90)
            task = peer.wait_for(
                "control/manager/start/proplet-3",
                lambda task: task["env"]["ROUND_ID"] == "r-2",
                timeout_s=90,
            )
            assert task["image_sha256"] != r1_image


def test_why_an_image_cannot_be_pulled_is_in_the_launch_report(
    nats: RunningBroker, registry: RunningRegistry, tmp_path: Path
) -> None:
    with peer_at(nats.address) as peer, deployment(nats, tmp_path, "proplet-1"):
        tag = f"oci://{registry.host}/lab/client:v1"
        start(peer, "r-1", tag, participants=["proplet-1"], k_of_n=1)
        report = peer.wait_for(
            "fl/rounds/r-1/launch", lambda report: "404" in report["error"], timeout_s=60
        )
        assert tag in report["error"]
        assert "has it been pushed" in report["error"]
        assert push(registry, tmp_path, LINEAR) == tag  # and while the round is open it is mended
        complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=90)
        assert complete["status"] == "complete"


def test_a_deployment_that_requires_signatures(
    nats: RunningBroker, registry: RunningRegistry, tmp_path: Path
) -> None:
    """Of the module in the registry, whose signatures come along with it."""
    key, stranger = PrivateKey.generate(), PrivateKey.generate()
    TrustedKeys(tmp_path / "state" / "trusted-keys").add(key.public)
    message = signed_message(hashlib.sha256(LINEAR).hexdigest())
    alone = {"participants": ["proplet-1"], "k_of_n": 1}
    running = deployment(nats, tmp_path, "proplet-1", proplet__require_signature=True)
    with peer_at(nats.address) as peer, running:
        start(peer, "r-1", push(registry, tmp_path, LINEAR), **alone)
        report = peer.wait_for("fl/rounds/r-1/launch", lambda r: r["failed"], timeout_s=60)
        assert report["failed"]["proplet-1"].startswith("unsigned_image: ")
        by_stranger = {stranger.public.key_id: stranger.sign(message)}
        start(peer, "r-2", push(registry, tmp_path, LINEAR, by_stranger), **alone)
        report = peer.wait_for("fl/rounds/r-2/launch", lambda r: r["failed"], timeout_s=60)
        assert report["failed"]["proplet-1"].startswith("untrusted_signature: ")
        by_us = by_stranger | {key.public.key_id: key.sign(message)}
        start(peer, "r-3", push(registry, tmp_path, LINEAR, by_us), **alone)
        assert peer.wait_for("fl/rounds/r-3/complete", timeout_s=90)["status"] == "complete"
