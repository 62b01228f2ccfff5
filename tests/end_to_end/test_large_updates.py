"""Rounds that train a model which travels in parts, through brokers that take 256 KiB in a
message."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from propeller_fl.link import BrokerSettings
from propeller_fl.wire import Manifest, UpdateManifest
from tests.support.brokers import MOSQUITTO_DURABLE, RunningBroker, embedded_broker, mosquitto
from tests.support.peers import peer_at
from tests.support.services import Service, running
from tests.support.wait import wait_until

from .large_rounds import (
    PROPLETS,
    begin,
    expected,
    image_at,
    make_data,
    make_model,
    numbers_in,
)
from .test_large import MODEL_MIB, MOST_ANONYMOUS, Memory

pytest.importorskip("ziglang", reason="no compiler for Wasm: pip install 'propeller-fl[client]'")

PACKET_BYTES = 256 * 1024


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_at(tmp_path_factory.mktemp("image"))


def test_a_model_in_parts_is_trained_to_the_same_bits(tmp_path: Path, image: Path) -> None:
    """And what comes of it is trained again."""
    settings = BrokerSettings(redeliver_after_s=1.0, max_payload_bytes=PACKET_BYTES)
    with embedded_broker(tmp_path, settings) as broker:
        train(broker, tmp_path, image, "r-1", "r-2")


def test_so_it_is_through_mosquitto(tmp_path: Path, image: Path) -> None:
    limit = f"message_size_limit {PACKET_BYTES}\n"
    with mosquitto(tmp_path, config=MOSQUITTO_DURABLE + limit) as broker:
        train(broker, tmp_path, image, "r-1")


def train(broker: RunningBroker, tmp_path: Path, image: Path, *rounds: str) -> None:
    model = tmp_path / "large.safetensors"
    rows = make_model(model, 3)
    data = make_data(tmp_path / "data", len(rows))
    address = broker.address
    flags = {
        "data_dir": str(tmp_path / "state"),
        "broker.url": f"mqtt://{address.host}:{address.port}",
        "model_server.models_dir": str(tmp_path / "models"),
        "model_server.http_port": 0,
        "model_server.initial_model": str(model),
        "large.above_bytes": 1024 * 1024,
        "proplet.data": str(tmp_path / "data"),
        "proplet.resend_after_s": 1,
    }
    settings = config.load(environ={}, flags=flags)
    with Deployment(settings, Role.SERVICES | Role.PROPLETS), peer_at(address) as peer:
        peer.subscribe("fml/updates")
        for version, round_id in enumerate(rounds):
            before = tmp_path / "models" / f"global_model_v{version}.safetensors"
            wanted, loss = expected(image, before, data, round_id)
            begin(peer, image, round_id, version)
            complete = peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=120)
            assert (complete["status"], complete["num_updates"]) == ("complete", 3), complete
            assert complete["metrics"]["loss"] == pytest.approx(loss)
            manifest = peer.wait_for_bytes(f"fl/models/global_model_v{version + 1}", timeout_s=120)
            assert Manifest.decode(manifest) is not None
            made = numbers_in(tmp_path / "models" / f"global_model_v{version + 1}.safetensors")
            assert made.tobytes() == wanted.tobytes()
            assert not np.array_equal(made, numbers_in(before))  # it has learned something
        offers = map(UpdateManifest.decode, peer.heard("fml/updates"))
        assert {offer.proplet_id for offer in offers if offer} == set(PROPLETS)
        kept = tmp_path / "state" / "coordinator" / "large" / "updates"
        wait_until(lambda: files_under(kept) == [], 60, "the coordinator has removed its files")
        sent = tmp_path / "state" / "proplets" / "updates"
        wait_until(lambda: files_under(sent) == [], 60, "the proplets have removed theirs")


def files_under(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_killed_coordinator_and_a_killed_proplet_go_on(tmp_path: Path, image: Path) -> None:
    """Parts are small here, so that there are many, and time to be killed among them."""
    model = tmp_path / "large.safetensors"
    data = make_data(tmp_path / "data", len(make_model(model, 3)))
    wanted, _ = expected(image, model, data, "r-1")
    with embedded_broker(tmp_path) as broker:
        large = ["large.above_bytes=1048576", "large.part_bytes=16384", "proplet.heartbeat_s=1"]
        large += ["large.max_model_bytes=67108864"]
        own = {
            "model-server": [f"model_server.initial_model={model}"],
            "coordinator": [],
            "manager": [],
            "first": ["proplet.ids=proplet-1,proplet-2", f"proplet.data={tmp_path / 'data'}"],
            "last": ["proplet.ids=proplet-3", f"proplet.data={tmp_path / 'data'}"],
        }
        ours = {
            name: Service(
                tmp_path / name,
                broker.address,
                "proplet" if name in ("first", "last") else name,
                settings=[*large, *settings],
            )
            for name, settings in own.items()
        }
        coordinator, last = ours["coordinator"], ours.pop("last")
        updates = tmp_path / "coordinator" / "coordinator" / "large" / "updates" / "r-1"
        with running(*ours.values()), peer_at(broker.address) as peer:
            begin(peer, image)
            wait_until(lambda: started(updates), 120, "an update is on its way")
            coordinator.stop(signal.SIGKILL)
            there = {path.stem: filled(path) for path in updates.glob("*.part")}
            coordinator.forget_log()
            coordinator.start()
            coordinator.wait_ready()
            with running(last):
                wait_until(
                    lambda: (updates / "proplet-3.part").exists() or peer.heard(COMPLETE),
                    120,
                    "the last update is on its way",
                )
                last.stop(signal.SIGKILL)
                last.start()
                complete = peer.wait_for(COMPLETE, timeout_s=240)
            assert (complete["status"], complete["num_updates"]) == ("complete", 3), complete
            peer.wait_for_bytes("fl/models/global_model_v1", timeout_s=120)
        made = numbers_in(tmp_path / "model-server" / "models" / "global_model_v1.safetensors")
        assert made.tobytes() == wanted.tobytes()
        for proplet, share in there.items():
            said = rf"update of {proplet} in round r-1: (\d+) of (\d+) parts are missing"
            found = re.search(said, coordinator.log)
            assert found, coordinator.log
            missing, parts = map(int, found.groups())
            assert missing <= parts * (1 - share) + 1


COMPLETE = "fl/rounds/r-1/complete"


def started(updates: Path) -> bool:
    return any(filled(path) > 0.1 for path in updates.glob("*.part")) or any(
        updates.glob("*.safetensors")
    )


def filled(path: Path) -> float:
    """The share of a file's parts that are there; less where one of them has just been renamed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0.0
    parts = range(0, len(data), 16384)
    return sum(any(data[start : start + 64]) for start in parts) / max(1, len(parts))


@pytest.mark.skipif(
    "PROPELLER_LARGE_MIB" not in os.environ,
    reason="takes minutes: PROPELLER_LARGE_MIB=64 pytest tests/end_to_end -s -k trained",
)
@pytest.mark.timeout(3000)
def test_a_model_is_trained_in_constant_memory(tmp_path: Path, image: Path) -> None:
    model = tmp_path / "large.safetensors"
    make_data(tmp_path / "data", len(make_model(model, MODEL_MIB)))
    settings = BrokerSettings(redeliver_after_s=1.0, max_payload_bytes=PACKET_BYTES)
    with embedded_broker(tmp_path, settings) as broker:
        own = {
            "model-server": [f"model_server.initial_model={model}"],
            "coordinator": [],
            "manager": [],
            "proplet": [f"proplet.data={tmp_path / 'data'}", "proplet.wall_time_s=900"],
        }
        ours = [
            Service(tmp_path / name, broker.address, name, settings=["large.above_bytes=1", *more])
            for name, more in own.items()
        ]
        memory = Memory()
        began = time.monotonic()
        with memory.of(*ours), running(*ours), peer_at(broker.address) as peer:
            begin(peer, image, timeout_s=2500)
            complete = peer.wait_for(COMPLETE, timeout_s=2500)
            assert (complete["status"], complete["num_updates"]) == ("complete", 3), complete
            print(f"complete after {time.monotonic() - began:.0f} s")
            peer.wait_for_bytes("fl/models/global_model_v1", timeout_s=600)
            print(f"published after {time.monotonic() - began:.0f} s")
        print({name: f"{most / 2**20:.0f} MiB" for name, most in memory.most.items()})
        assert len(memory.most) == len(ours)
        assert max(memory.most.values()) < MOST_ANONYMOUS, memory.most
