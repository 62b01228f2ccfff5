"""Models in parts, to a proplet: over MQTT, and over HTTP where that is set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from propeller_fl.config import LargeConfig, ModelServerConfig
from propeller_fl.link import Link, LinkLoop
from propeller_fl.model_server import ModelServer
from propeller_fl.proplet import PropletHost
from propeller_fl.store import ModelsDir, write_large
from propeller_fl.wire import Model, TaskResult, Topics

from ..support.brokers import RunningBroker, embedded_broker, free_port
from ..support.wait import wait_until
from .conftest import CONFIG, HostMaker
from .modules import ENDLESS, read_file
from .other_side import OtherSide

TOPICS = Topics()
LARGE = LargeConfig(above_bytes=1_000_000)


class Source:
    """A model server with one large model, and who asks it for parts."""

    def __init__(self, broker: RunningBroker, directory: Path) -> None:
        self.path = directory / "large.safetensors"
        numbers = np.random.default_rng(5).standard_normal(500_000, np.float32)
        write_large(Model({"w": numbers}), self.path)
        self._loop = LinkLoop()
        self._loop.start()
        self._models = ModelsDir(directory / "models")
        self._link = Link(self._loop, broker.address, "model-server")
        config = ModelServerConfig(initial_model=str(self.path), http_port=0)
        self._server = ModelServer(self._link, TOPICS, config, self._models, large=LARGE)
        self._server.start()
        self.asked: list[bytes] = []
        self._watcher = Link(self._loop, broker.address, "watcher")
        self._watcher.subscribe(
            TOPICS.parts_wanted, lambda incoming: self.asked.append(incoming.payload), qos=0
        )
        self._watcher.start()
        self._watcher.wait_connected(10)

    @property
    def url(self) -> str:
        host, port = self._server.http_address
        return f"http://{host}:{port}"

    def close(self) -> None:
        self._server.stop()
        self._models.close()
        self._loop.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with embedded_broker(tmp_path) as running:
        yield running


@pytest.fixture
def source(broker: RunningBroker, tmp_path: Path) -> Iterator[Source]:
    made = Source(broker, tmp_path)
    try:
        yield made
    finally:
        made.close()


def run(other: OtherSide, image: bytes, task_id: str = "t-1", proplet_id: str = "p-1") -> None:
    url = other.publish_image(image)
    other.give(other.task(url, task_id, round_id="", proplet_id=proplet_id))


def head_of(path: Path) -> str:
    """What a module prints of the file."""
    return path.read_bytes()[:4096].decode(errors="replace")


def result_of(other: OtherSide, task_id: str) -> TaskResult:
    return wait_until(lambda: other.results(task_id), 60, f"a result of {task_id}")[0]


def test_in_parts(host: HostMaker, other: OtherSide, source: Source) -> None:
    """Two proplets of one process fetch it once."""
    host("p-1", "p-2")
    run(other, read_file("model"))
    run(other, read_file("model"), "t-2", "p-2")
    for task_id in ("t-1", "t-2"):
        assert result_of(other, task_id).results == head_of(source.path)
    asked = sum(payload.count(b'"') // 2 - 3 for payload in source.asked)
    assert 0 < asked < 20  # of 11 parts


def test_over_http(host: HostMaker, other: OtherSide, source: Source) -> None:
    host(models_url=source.url)
    run(other, read_file("model"))
    assert result_of(other, "t-1").results == head_of(source.path)
    assert source.asked == []


def test_over_mqtt_when_http_fails(
    host: HostMaker, other: OtherSide, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    host(models_url=f"http://127.0.0.1:{free_port()}")
    run(other, read_file("model"))
    assert result_of(other, "t-1").results == head_of(source.path)
    assert "the rest comes over MQTT" in caplog.text
    assert source.asked


def test_a_manifest_that_cannot_be(host: HostMaker, other: OtherSide) -> None:
    host()
    other.publish(
        "fl/models/global_model_v0", b'{"version":0,"manifest":{"format":"npz"}}', retain=True
    )
    run(other, read_file("model"))
    assert "manifest.format is another" in result_of(other, "t-1").error


def test_a_task_that_is_stopped_while_its_model_comes(
    host: HostMaker, other: OtherSide, source: Source
) -> None:
    """Parts that never come keep nobody: the next task is served."""
    nobody_has = {
        "format": "safetensors", "size_bytes": 5000, "sha256": "0" * 64, "part_bytes": 4096,
        "parts": ["1" * 64, "2" * 64], "tensors": {"w": [9]},
    }  # fmt: skip
    document = json.dumps({"version": 7, "manifest": nobody_has}).encode()
    other.publish("fl/models/global_model_v7", document, retain=True)
    host()
    for number in range(3):
        url = other.publish_image(read_file("model"))
        uri = "fl/models/global_model_v7"
        other.give(other.task(url, f"stuck-{number}", round_id="", model_uri=uri))
    wait_until(lambda: any(b"1" * 64 in asked for asked in source.asked), 15, "it is asked for")
    for number in range(3):
        other.stop(f"stuck-{number}")
        assert "stopped" in result_of(other, f"stuck-{number}").error
    run(other, read_file("model"))
    assert result_of(other, "t-1").results == head_of(source.path)


def test_a_round_that_ends_frees_its_worker(
    other: OtherSide, source: Source, broker: RunningBroker, tmp_path: Path
) -> None:
    updates = tmp_path / "updates"
    config = replace(CONFIG, workers=1, wall_time_s=300.0, fuel=1 << 50)
    with PropletHost(broker.address, TOPICS, config, updates_dir=updates) as proplets:
        proplets.wait_connected(60)
        other.give(other.task(other.publish_image(ENDLESS)))
        wait_until(lambda: list(updates.rglob("*.output")), 60, "the module has where to write to")
        other.close_round()

        assert "closed (complete) before the module had run" in result_of(other, "t-1").error
        run(other, read_file("model"), "t-2")
        assert result_of(other, "t-2").results == head_of(source.path)
        assert list(updates.rglob("*.output")) == []
