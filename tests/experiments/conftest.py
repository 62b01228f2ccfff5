"""Fixtures of the experiments' tests."""

from __future__ import annotations

from tests.support.brokers import nats  # noqa: F401
