"""The simulation finds mistakes: each coordinator that has one is caught, and soon."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import run
from tests.simulation.world import Violation

SCHEDULES = 1_000  # at most; most are caught in the first ten


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def is_found(name: str, seed: int) -> bool:
    try:
        run(seed, MUTANTS[name])
    except Violation:
        return True
    return False


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found(name: str) -> None:
    assert any(is_found(name, seed) for seed in range(SCHEDULES))
