"""Ready, not ready, and who may ask."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from propeller_fl import config
from propeller_fl.config import MetricsConfig
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ConfigError
from propeller_fl.observe import Metrics, Readiness, metrics_server, observe_app
from propeller_fl.web import HttpGuard
from tests.observe.scrape import scrape
from tests.support.brokers import RunningBroker
from tests.support.brokers import nats as nats
from tests.support.wait import wait_until

WAIT_S = 60


def ready(address: str) -> tuple[int, dict[str, str]]:
    answer = httpx.get(f"{address}/readyz", timeout=30)
    amiss: dict[str, str] = answer.json()["amiss"]
    return answer.status_code, amiss


def test_ready_means_connected_and_able_to_write(nats: RunningBroker, tmp_path: Path) -> None:
    settings = config.load(
        environ={},
        flags={
            "data_dir": str(tmp_path / "state"),
            "broker.url": f"mqtt://{nats.address.host}:{nats.address.port}",
            "metrics.enabled": True,
            "metrics.http_port": 0,
        },
    )
    with Deployment(settings, Role.COORDINATOR) as deployment:
        address = deployment.metrics_address
        assert ready(address) == (200, {})
        assert scrape(address).value("propeller_fl_ready") == 1

        nats.kill()
        broken = {"broker, as coordinator": "not connected"}
        wait_until(lambda: ready(address) == (503, broken), WAIT_S, "not ready without a broker")
        now = scrape(address)
        assert now.value("propeller_fl_broker_connected", session="coordinator") == 0
        assert now.value("propeller_fl_ready") == 0
        assert httpx.get(f"{address}/healthz").status_code == 200, "no reason to restart it"
        nats.start()
        wait_until(lambda: ready(address) == (200, {}), WAIT_S, "ready again")

        store = tmp_path / "state" / "coordinator"
        store.rename(tmp_path / "away")
        status, amiss = ready(address)
        assert (status, set(amiss)) == (503, {"store of the coordinator"})
        assert "cannot be written" in amiss["store of the coordinator"]
        (tmp_path / "away").rename(store)
        assert ready(address) == (200, {})
        assert not [name for name in store.iterdir() if name.name.startswith("tmp")]
    with pytest.raises(httpx.ConnectError):
        ready(address)


def test_a_process_of_one_service_shows_no_counts_of_others(
    nats: RunningBroker, tmp_path: Path
) -> None:
    url = f"mqtt://{nats.address.host}:{nats.address.port}"
    flags: dict[str, Any] = {"data_dir": str(tmp_path), "broker.url": url}
    flags |= {"metrics.enabled": True, "metrics.http_port": 0}
    with Deployment(config.load(environ={}, flags=flags), Role.MANAGER) as deployment:
        names = scrape(deployment.metrics_address).names
    assert "propeller_fl_tasks_sent_total" in names
    assert not [name for name in names if name.startswith("propeller_fl_rounds")]


def test_not_ready_while_it_starts_and_while_it_stops() -> None:
    readiness = Readiness()
    assert readiness.amiss() == {"process": "starting"}
    readiness.started()
    assert readiness.amiss() == {}
    readiness.add("store", lambda: "full")
    assert readiness.amiss() == {"store": "full"}
    readiness.stopping()
    assert readiness.amiss() == {"process": "stopping", "store": "full"}


def test_healthy_until_a_service_has_failed() -> None:
    failure: list[Exception] = []
    app = observe_app(Metrics(), Readiness(), lambda: failure[0] if failure else None)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/healthz")

    assert asyncio.run(ask()).json() == {"status": "ok"}
    failure.append(RuntimeError("a secret of ours"))
    failed = asyncio.run(ask())
    assert (failed.status_code, failed.json()) == (503, {"status": "failed"})


def test_beyond_this_machine_only_with_tls_unless_told_otherwise() -> None:
    app = observe_app(Metrics(), Readiness(), lambda: None)
    with pytest.raises(ConfigError, match=r"metrics.allow_plain"):
        metrics_server(app, MetricsConfig(True, "0.0.0.0", 0), HttpGuard())
    server = metrics_server(app, MetricsConfig(True, "0.0.0.0", 0, allow_plain=True), HttpGuard())
    server.stop(1)
