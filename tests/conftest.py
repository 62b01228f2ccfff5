"""Fixtures that every test may use, and one that keeps tests out of each other's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.brokers import broker  # noqa: F401

# How long an example takes says how busy the machine is, and nothing about us.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """A command that is run in this process sets levels for all of it."""
    names = ("propeller_fl", "propeller_fl.link")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
