"""The broker that most faults happen around, and the order of a full run."""

from __future__ import annotations

import pytest

from tests.faults.rounds import FULL
from tests.support.brokers import nats

__all__ = ["nats"]

LONGEST_FIRST = ["test_partition", "test_kills", "test_flood"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes minutes begin first. A worker is given two tests at a time, so the second of
    those that wait out a partition is one that takes no time."""
    if not FULL:
        return

    def rank(item: pytest.Item) -> int:
        name = item.path.stem
        return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)
    waiting = [item for item in items if item.path.stem == "test_partition"]
    quick = [item for item in items if item.path.stem == "test_network"][: len(waiting)]
    pairs = [item for pair in zip(waiting, quick, strict=True) for item in pair]
    items[:] = pairs + [item for item in items if item not in pairs]
