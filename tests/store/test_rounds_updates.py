"""What strategies read from the store, and what they leave there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.errors import StoreError
from propeller_fl.rounds import Opening, UpdateFacts
from propeller_fl.store import KeptState, PruneBudget, RoundStore, check_rounds
from propeller_fl.wire import RoundStart


def filled(database: Path | sqlite3.Connection, vectors: NDArray[np.float32]) -> RoundStore:
    """A store with one round; the updates come in the reverse order of their proplets' ids."""
    names = [f"p-{number:05}" for number in range(len(vectors))]
    uri = "fl/models/global_model_v0"
    start = RoundStart("r-1", uri, "builtin:linear", tuple(names), {}, len(names), 30.0)
    store = RoundStore(database)
    with store.transaction():
        store.put_model(uri, b"{}", None)
        store.open_round(Opening(start, 0.0, {"w": (vectors.shape[1],)}))
        for number in reversed(range(len(vectors))):
            facts = UpdateFacts("r-1", names[number], uri, number + 1, {}, "sha", 77)
            store.keep_update(facts, {"loss": float(number)}, vectors[number], 0.0)
    return store


@pytest.mark.parametrize("shape", [(3, 1_500_000), (7, 5), (4_200, 600)])
def test_vectors_and_blocks_are_what_was_kept(tmp_path: Path, shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    store = filled(tmp_path / "rounds.db", vectors)
    updates = store.kept_updates("r-1", shape[1])
    assert updates.weights == tuple(range(1, shape[0] + 1))
    for _ in range(2):  # as often as one likes
        for found, vector in zip(updates.vectors(), vectors, strict=True):
            np.testing.assert_array_equal(found, vector)
        blocks = list(updates.blocks())
        np.testing.assert_array_equal(np.hstack([block for _, block in blocks]), vectors)
        assert [columns.start for columns, _ in blocks][1:] == [c.stop for c, _ in blocks][:-1]
        assert max(block.nbytes for _, block in blocks) <= 8 * 1024 * 1024
    assert [metrics["loss"] for metrics, _ in store.reports("r-1")] == list(range(shape[0]))
    store.close()


@pytest.mark.parametrize("count", [2, 4_200])
def test_a_vector_of_another_size_is_none(count: int) -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    store = filled(database, np.zeros((count, 3), np.float32))
    database.execute("UPDATE updates SET vector = x'00' WHERE proplet_id = 'p-00001'")
    updates = store.kept_updates("r-1", 3)
    with pytest.raises(ValueError, match="1 bytes is kept, not of 12"):
        list(updates.vectors())
    with pytest.raises(ValueError, match="1 bytes is kept, not of 12"):
        list(updates.blocks())


def test_a_row_that_is_gone_is_an_error_of_the_store() -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    updates = filled(database, np.zeros((2, 3), np.float32)).kept_updates("r-1", 3)
    database.execute("DELETE FROM updates")
    with pytest.raises(StoreError):
        list(updates.blocks())


def test_what_a_strategy_remembers_is_its_own_and_goes_with_the_model(tmp_path: Path) -> None:
    path = tmp_path / "rounds.db"
    uri = "fl/models/global_model_v1"
    numbers = np.random.default_rng(0).normal(size=1000)
    with closing(RoundStore(path)) as store, store.transaction():
        store.put_strategy_state(uri, "sha a", KeptState({"m": numbers}, {"rounds": 1 / 3}))
        store.put_model(uri, b"{}", None)
    with closing(RoundStore(path)) as store:
        found = store.strategy_state(uri, "sha a")
        assert found is not None
        assert found.numbers == {"rounds": 1 / 3}
        np.testing.assert_array_equal(found.arrays["m"], numbers)
        assert store.strategy_state(uri, "sha b") is None
        assert store.strategy_state("fl/models/global_model_v2", "sha a") is None
        assert check_rounds(path).endswith("1 models, 1 strategy_states")
        with store.transaction():
            store.put_model("fl/models/global_model_v2", b"{}", None)
            budget = PruneBudget(1_000_000)
            store.prune_models(1, (), budget)
        assert store.strategy_state(uri, "sha a") is None
        assert budget.left_bytes < 1_000_000 - numbers.nbytes, "its bytes are counted"
        assert check_rounds(path).endswith("1 models")


def test_a_state_of_no_model_is_not_kept(tmp_path: Path) -> None:
    with closing(RoundStore(tmp_path / "rounds.db")) as store:
        with pytest.raises(StoreError), store.transaction():
            store.put_strategy_state("fl/models/nowhere", "sha", KeptState({}, {"rounds": 1.0}))
        assert store.strategy_state("fl/models/nowhere", "sha") is None
