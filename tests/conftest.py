"""Fixtures that every test may use."""

from __future__ import annotations

from tests.support.brokers import broker  # noqa: F401
