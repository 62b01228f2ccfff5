"""What the proplet's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from propeller_fl.config import PropletConfig
from propeller_fl.link import LinkLimits, LinkLoop
from propeller_fl.proplet import PropletHost, WasmtimeRuntime
from propeller_fl.wire import Topics

from ..support.brokers import RunningBroker, broker, nats
from .other_side import PATIENCE_S, OtherSide

__all__ = ["HostMaker", "broker", "host", "nats", "other", "runtime"]

CONFIG = PropletConfig(ids=("p-1",), data="tumors", heartbeat_s=0.1, resend_after_s=0.05, workers=2)
LIMITS = LinkLimits()
PLAIN = Topics()


class HostMaker(Protocol):
    """Proplets that are connected; ``changes`` are made to a configuration fit for tests."""

    def __call__(
        self,
        *ids: str,
        topics: Topics = ...,
        limits: LinkLimits = ...,
        cache_dir: Path | None = None,
        **changes: Any,
    ) -> PropletHost: ...


@pytest.fixture
def runtime() -> Iterator[WasmtimeRuntime]:
    """A runtime without a cache on disk."""
    with WasmtimeRuntime() as runtime:
        yield runtime


@pytest.fixture
def other(broker: RunningBroker) -> Iterator[OtherSide]:
    """Manager, coordinator and model server."""
    with LinkLoop() as loop:
        yield OtherSide(loop, broker, Topics())


@pytest.fixture
def host(broker: RunningBroker) -> Iterator[HostMaker]:
    """Makes hosts of proplets, by default of p-1, and stops them in the end."""
    hosts: list[PropletHost] = []

    def make(
        *ids: str,
        topics: Topics = PLAIN,
        limits: LinkLimits = LIMITS,
        cache_dir: Path | None = None,
        **changes: Any,
    ) -> PropletHost:
        config = replace(CONFIG, ids=ids or CONFIG.ids, **changes)
        made = PropletHost(broker.address, topics, config, cache_dir=cache_dir, limits=limits)
        hosts.append(made)
        made.start()
        made.wait_connected(PATIENCE_S)
        return made

    yield make
    for made in hosts:
        made.stop()
