"""One whole deployment with the page, and one browser, for all tests of a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from propeller_fl import config
from propeller_fl.config import Settings
from propeller_fl.deployment import Deployment, Role
from propeller_fl.operator import Operator
from propeller_fl.wire import model_uri
from tests.support.wait import wait_until

PROPLETS = [f"proplet-{number}" for number in range(1, 7)]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def settings(directory: Path, **more: str) -> Settings:
    flags = {
        "data_dir": str(directory / "state"),
        "broker.port": "0",
        "model_server.http_port": "0",
        "model_server.models_dir": str(directory / "models"),
        "proplet.ids": ",".join(PROPLETS),
        "proplet.heartbeat_s": "1",
        "dashboard.http_port": "0",
        "dashboard.wait_s": "60",
        "coordinator.model_grace_s": "30",
    }
    return config.load(environ={}, flags=flags | more)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Broker, services, page and six proplets; the page knows all of them, and a model."""
    directory = tmp_path_factory.mktemp("dashboard")
    with Deployment(settings(directory), Role.ALL | Role.DASHBOARD) as running:
        with Operator(running.address, running.settings.topics, timeout_s=60) as operator:
            operator.model(model_uri(0))

        def complete() -> bool:
            found = httpx.get(f"{running.dashboard_address}/api/snapshot", timeout=30).json()
            return len(found["proplets"]) >= len(PROPLETS) and bool(found["models"])

        wait_until(complete, 60, "the page knows the fleet and a model")
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as it is installed; nothing is downloaded."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(CHROMIUMS)} is installed")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=sandbox, timeout=90_000)
        yield running
        running.close()
