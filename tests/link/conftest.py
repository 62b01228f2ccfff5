"""A loop for the tests of the link, and links that are closed with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from propeller_fl.link import Backoff, BrokerAddress, Link, LinkLimits, LinkLoop, Will

from ..support.brokers import broker, nats

__all__ = ["broker", "connect", "loop", "nats"]

QUICK = Backoff(first_s=0.02, cap_s=0.2)
LIMITS = LinkLimits()


class Connect(Protocol):
    """A link that is up, and is aborted at the end of the test unless the test closes it."""

    def __call__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        will: Will | None = None,
        keepalive_s: int = 30,
        limits: LinkLimits = ...,
    ) -> Link: ...


@pytest.fixture
def loop() -> Iterator[LinkLoop]:
    with LinkLoop() as running:
        yield running


@pytest.fixture
def connect(loop: LinkLoop) -> Connect:
    def make(
        address: BrokerAddress,
        client_id: str,
        *,
        will: Will | None = None,
        keepalive_s: int = 30,
        limits: LinkLimits = LIMITS,
    ) -> Link:
        link = Link(
            loop,
            address,
            client_id,
            will=will,
            keepalive_s=keepalive_s,
            backoff=QUICK,
            limits=limits,
        )
        link.start()
        link.wait_connected(10)
        return link

    return make
