"""Rounds that train a model which travels in parts, through brokers that take 256 KiB in a
message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from propeller_fl.link import BrokerSettings
from propeller_fl.wire import Manifest, UpdateManifest
from tests.support.brokers import MOSQUITTO_DURABLE, RunningBroker, embedded_broker, mosquitto
from tests.support.peers import peer_at
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

pytest.importorskip("ziglang", reason="no compiler for Wasm: pip install 'propeller-fl[client]'")

PACKET_BYTES = 256 * 1024


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_at(tmp_path_factory.mktemp("image"))


@pytest.fixture(params=["nats", "mosquitto"])
def small_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    if request.param == "nats":
        settings = BrokerSettings(redeliver_after_s=1.0, max_payload_bytes=PACKET_BYTES)
        with embedded_broker(tmp_path, settings) as broker:
            yield broker
    else:
        limit = f"message_size_limit {PACKET_BYTES}\n"
        with mosquitto(tmp_path, config=MOSQUITTO_DURABLE + limit) as broker:
            yield broker


def test_a_model_in_parts_is_trained_to_the_same_bits(
    small_broker: RunningBroker, tmp_path: Path, image: Path
) -> None:
    model = tmp_path / "large.safetensors"
    rows = make_model(model, 3)
    data = make_data(tmp_path / "data", len(rows))
    address = small_broker.address
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
        for version, round_id in enumerate(("r-1", "r-2")):
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
        kept = tmp_path / "state" / "coordinator" / "large"
        wait_until(lambda: files_under(kept) == [], 60, "the coordinator has removed its files")
        sent = tmp_path / "state" / "proplets" / "updates"
        wait_until(lambda: files_under(sent) == [], 60, "the proplets have removed theirs")


def files_under(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
