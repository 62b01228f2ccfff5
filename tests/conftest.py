"""Fixtures that every test may use, and one that keeps tests out of each other's log."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, settings

from tests.support.brokers import broker  # noqa: F401

# How long an example takes says how busy the machine is, and nothing about us.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_LEVELS = {name: logging.getLogger(name).level for name in ("propeller_fl", "propeller_fl.link")}


@pytest.fixture(autouse=True)
def log_levels() -> None:
    """A command that is run in this process sets levels for all of it, also one that a fixture of a
    whole module runs: each test has those of the beginning."""
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
