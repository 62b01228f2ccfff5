"""A model server on a broker, and somebody who sees all it publishes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from propeller_fl.config import LargeConfig, ModelServerConfig
from propeller_fl.link import LinkLoop
from propeller_fl.model_server import ModelServer
from propeller_fl.store import ModelsDir
from propeller_fl.wire import Topics

from ..manager.peers import Peer, new_link
from ..support.brokers import RunningBroker, broker, nats

__all__ = ["broker", "nats"]

TOPICS = Topics()


class Stage:
    def __init__(
        self, running: RunningBroker, directory: Path, large: LargeConfig | None = None
    ) -> None:
        self.large = large or LargeConfig()
        self.broker = running
        self.directory = directory
        self.loop = LinkLoop()
        self.loop.start()
        self.peer = Peer(self.loop, running.address, "peer", TOPICS.any_model)

    def start_server(self, initial_model: str = "linear:3") -> ModelServer:
        self.models = ModelsDir(self.directory / "models")
        self.link = new_link(self.loop, self.broker.address, "model-server")
        config = ModelServerConfig(initial_model=initial_model, http_port=0)
        self.server = ModelServer(self.link, TOPICS, config, self.models, large=self.large)
        self.server.start()
        self.link.wait_connected(10)
        return self.server

    def stop_server(self) -> None:
        self.server.stop()
        self.link.abort()
        self.models.close()

    def close(self) -> None:
        if hasattr(self, "server"):
            self.stop_server()
        self.loop.stop()

    @property
    def url(self) -> str:
        host, port = self.server.http_address
        return f"http://{host}:{port}"


@pytest.fixture
def stage(nats: RunningBroker, tmp_path: Path) -> Iterator[Stage]:
    """On the embedded broker."""
    yield from _stage(nats, tmp_path)


@pytest.fixture
def any_stage(broker: RunningBroker, tmp_path: Path) -> Iterator[Stage]:
    """On each broker in turn."""
    yield from _stage(broker, tmp_path)


def _stage(running: RunningBroker, directory: Path) -> Iterator[Stage]:
    made = Stage(running, directory)
    try:
        yield made
    finally:
        made.close()
