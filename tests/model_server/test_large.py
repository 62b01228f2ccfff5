"""Models that no message of the broker could hold, from a file or an offer to topic and HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from propeller_fl.config import LargeConfig
from propeller_fl.errors import ConfigError
from propeller_fl.link import BrokerSettings
from propeller_fl.operator import Operator
from propeller_fl.parts import PartsServer, places_of
from propeller_fl.store import check_models, manifest_of_file, write_large
from propeller_fl.wire import Manifest, Model, Tensor

from ..support.brokers import RunningBroker, embedded_broker
from ..support.wait import wait_until
from .conftest import TOPICS, Stage

LARGE = LargeConfig(above_bytes=100_000, part_bytes=48 * 1024, max_model_bytes=4_000_000)
SETTINGS = BrokerSettings(redeliver_after_s=1.0, max_payload_bytes=64 * 1024)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker that takes 64 KiB in a message."""
    with embedded_broker(tmp_path, SETTINGS) as broker:
        yield broker


@pytest.fixture
def stage(small: RunningBroker, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(small, tmp_path, LARGE)
    try:
        yield made
    finally:
        made.close()


def file_of(directory: Path, parameters: int = 200_000, **tensors: Tensor) -> Path:
    path = directory / "mine.safetensors"
    numbers = np.random.default_rng(2).standard_normal(parameters, np.float32)
    write_large(Model({"w": numbers, **tensors}), path)
    return path


def retained(stage: Stage, version: int) -> Manifest:
    manifest = Manifest.decode(stage.peer.expect(TOPICS.model(version))[-1])
    assert manifest is not None
    return manifest


def test_version_0_of_a_file(stage: Stage, tmp_path: Path) -> None:
    path = file_of(tmp_path)
    stage.start_server(str(path))
    manifest = retained(stage, 0)
    assert manifest == manifest_of_file(path, 0, LARGE.part_bytes)
    assert (stage.directory / "models" / "global_model_v0.safetensors").read_bytes() == (
        path.read_bytes()
    )
    with Operator(stage.broker.address, TOPICS) as operator:
        operator.fetch(manifest, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == path.read_bytes()


def test_version_0_that_is_made(stage: Stage) -> None:
    stage.start_server("softmax:500x100")
    assert retained(stage, 0).shapes == {"W": (500, 100), "b": (100,)}


def test_one_that_is_put(stage: Stage, tmp_path: Path) -> None:
    stage.start_server()
    path = file_of(tmp_path)
    manifest = manifest_of_file(path, 1, LARGE.part_bytes)
    with Operator(stage.broker.address, TOPICS) as operator:
        operator.put_large(manifest, path)
    document = manifest.encode()
    assert stage.peer.expect(TOPICS.model(1))[-1] == document == stage.models.read(1)
    assert check_models(stage.models.directory, {1: stage.models.versions()[1].sha256}).faults == ()

    stage.stop_server()  # and after a restart it is the same, and had from there
    stage.peer.say(TOPICS.model(1), b"", retain=True)
    before = len(stage.peer.heard(TOPICS.model(1)))
    stage.start_server()
    wait_until(
        lambda: document in stage.peer.heard(TOPICS.model(1))[before:], 10, "it is published again"
    )
    with Operator(stage.broker.address, TOPICS) as operator:
        operator.fetch(manifest, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == path.read_bytes()


def test_over_http_with_resume(stage: Stage, tmp_path: Path) -> None:
    path = file_of(tmp_path)
    data = path.read_bytes()
    stage.start_server(str(path))
    with httpx.Client(base_url=stage.url, trust_env=False) as client:
        answer = client.get("/models/0?format=safetensors")
        assert answer.content == data
        etag = answer.headers["etag"]
        assert etag == f'"{hashlib.sha256(data).hexdigest()}"'
        rest = client.get(
            "/models/0?format=safetensors", headers={"range": "bytes=70000-", "if-range": etag}
        )
        assert (rest.status_code, rest.content) == (206, data[70_000:])
        assert Manifest.decode(client.get("/models/0").content) is not None
        assert client.get("/models/0?format=npz").status_code == 406


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"sha256": "0" * 64}, "has not the SHA-256 of its manifest"),
        ({"shapes": {"x": (200_000,)}}, "names other tensors than the file"),
        ({"size_bytes": 5_000_000, "parts": ("0" * 64,) * 102}, "at most 4000000 are taken"),
    ],
)
def test_an_offer_that_is_wrong(
    stage: Stage,
    tmp_path: Path,
    wrong: dict[str, object],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused(stage, file_of(tmp_path), wrong, why, caplog)


def test_an_offer_of_numbers_that_are_not_finite(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(tmp_path)
    good = manifest_of_file(path, 1, LARGE.part_bytes)
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32(np.inf).tobytes()
    path.write_bytes(data)
    last = hashlib.sha256(data[good.place(len(good.parts) - 1).start :]).hexdigest()
    changes: dict[str, object] = {
        "parts": (*good.parts[:-1], last),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    refused(stage, path, changes, "w holds NaN or infinity", caplog, good)


def refused(
    stage: Stage,
    path: Path,
    changes: dict[str, object],
    why: str,
    caplog: pytest.LogCaptureFixture,
    good: Manifest | None = None,
) -> None:
    stage.start_server()
    good = good or manifest_of_file(path, 1, LARGE.part_bytes)
    fields = {name: getattr(good, name) for name in Manifest.__slots__}
    wrong = Manifest(**{**fields, **changes})
    places = dict(places_of(wrong, path))
    server = PartsServer(stage.peer.link, TOPICS, places.get)
    server.start()
    try:
        stage.peer.say(TOPICS.model_publish, wrong.encode())
        wait_until(lambda: "model refused" in caplog.text, 20, "it is refused")
    finally:
        server.stop()
    assert why in caplog.text
    assert [model.version for model in stage.models.versions()] == [0]
    assert not list(stage.models.directory.glob(".fetching-*"))


def test_a_file_that_cannot_be_version_0(stage: Stage, tmp_path: Path) -> None:
    path = file_of(tmp_path, bad=np.full(9, np.nan, np.float32))
    with pytest.raises(ConfigError, match="bad holds NaN or infinity"):
        stage.start_server(str(path))


def test_a_file_that_is_damaged_is_named_and_no_part_of_it_sent(
    stage: Stage, tmp_path: Path
) -> None:
    stage.start_server(str(file_of(tmp_path)))
    retained(stage, 0)
    stage.stop_server()
    path = stage.directory / "models" / "global_model_v0.safetensors"
    data = bytearray(path.read_bytes())
    data[300_000] ^= 1
    path.write_bytes(data)
    [(detail, _)] = check_models(path.parent, {}).faults
    assert "global_model_v0.safetensors is damaged" in detail
