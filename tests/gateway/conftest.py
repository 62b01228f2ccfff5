"""One whole deployment with the HTTP face, for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from propeller_fl import config
from propeller_fl.config import Settings
from propeller_fl.deployment import Deployment, Role
from propeller_fl.operator import Operator
from propeller_fl.wire import model_uri

TOKEN = "0123456789abcdef0123456789abcdef"
TOKENS = {
    name: f"{name}-{'f' * 24}"
    for name in ("operator", "publisher", "observer", "hand-1", "manager")
}
PREFIX = "m/domain/c/channel"


def settings(directory: Path, **more: str) -> Settings:
    lines = [TOKEN, "# those who may do less", *(f"{name} {TOKENS[name]}" for name in TOKENS)]
    (directory / "token").write_text("\n".join(lines) + "\n")
    flags = {
        "data_dir": str(directory / "state"),
        "topic_prefix": PREFIX,
        "broker.port": "0",
        "model_server.http_port": "0",
        "model_server.models_dir": str(directory / "models"),
        "proplet.heartbeat_s": "1",
        "gateway.http_port": "0",
        "gateway.wait_s": "60",
        "coordinator.model_grace_s": "4",
        "gateway.token_file": str(directory / "token"),
        "gateway.data": "tumors",
        "gateway.max_requests_per_s": "10000",  # who tests asks as fast as it goes
    }
    return config.load(environ={}, flags=flags | more)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Broker, services, HTTP face and the proplets proplet-1 to proplet-3."""
    directory = tmp_path_factory.mktemp("gateway")
    with Deployment(settings(directory), Role.ALL | Role.GATEWAY) as running:
        with Operator(running.address, running.settings.topics, timeout_s=60) as operator:
            operator.model(model_uri(0))  # no round is refused for want of it
        yield running


@pytest.fixture
def http(deployment: Deployment) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=deployment.gateway_address, headers=headers, timeout=90.0) as client:
        yield client
