"""What strategies read from the store, and what they leave there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.errors import StoreError
from propeller_fl.rounds import Opening, UpdateFacts
from propeller_fl.store import KeptState, NewUpdate, PruneBudget, RoundStore, check_rounds
from propeller_fl.wire import RoundStart
from tests.store.round_stores import FilePlace, Place


def fill(store: RoundStore, vectors: NDArray[np.float32]) -> None:
    """With one round; the updates come in the reverse order of their proplets' ids."""
    names = [f"p-{number:05}" for number in range(len(vectors))]
    uri = "fl/models/global_model_v0"
    start = RoundStart("r-1", uri, "builtin:linear", tuple(names), {}, len(names), 30.0)
    with store.transaction():
        store.put_model(uri, b"{}", None)
        store.open_round(Opening(start, 0.0, {"w": (vectors.shape[1],)}))
        for number in reversed(range(len(vectors))):
            facts = UpdateFacts("r-1", names[number], uri, number + 1, {}, "sha", 77)
            store.keep_updates([NewUpdate(facts, {"loss": float(number)}, vectors[number])], 0.0)


@pytest.mark.parametrize("shape", [(3, 1_500_000), (7, 5)])
def test_vectors_and_blocks_are_what_was_kept(place: Place, shape: tuple[int, int]) -> None:
    compare_what_is_read(place, shape)


def test_so_they_are_of_more_updates_than_are_open_at_once(tmp_path: Path) -> None:
    compare_what_is_read(FilePlace(tmp_path / "rounds.db"), (4_200, 600))


def compare_what_is_read(place: Place, shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with place.open() as store:
        fill(store, vectors)
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


def test_two_may_read_the_vectors_at_once_also_in_a_transaction(place: Place) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    with place.open() as store:
        fill(store, vectors)
        with store.transaction():
            updates = store.kept_updates("r-1", 3)
            for one, other, vector in zip(
                updates.vectors(), updates.vectors(), vectors, strict=True
            ):
                np.testing.assert_array_equal(one, vector)
                np.testing.assert_array_equal(other, vector)


def test_a_vector_of_another_size_is_none(place: Place) -> None:
    with place.open() as store:
        fill(store, np.zeros((2, 3), np.float32))
        place.execute(
            "UPDATE updates SET vector = substr(vector, 1, 1) WHERE proplet_id = 'p-00001'"
        )
        updates = store.kept_updates("r-1", 3)
        with pytest.raises(ValueError, match="1 bytes is kept, not of 12"):
            list(updates.vectors())
        with pytest.raises(ValueError, match="1 bytes is kept, not of 12"):
            list(updates.blocks())


def test_a_row_that_is_gone_is_an_error_of_the_store(place: Place) -> None:
    with place.open() as store:
        fill(store, np.zeros((2, 3), np.float32))
        updates = store.kept_updates("r-1", 3)
        place.execute("DELETE FROM updates WHERE proplet_id = 'p-00001'")
        with pytest.raises(StoreError):
            list(updates.blocks())


@pytest.mark.parametrize("change", ["UPDATE updates SET vector = x'00'", "DELETE FROM updates"])
def test_so_it_is_with_more_updates_than_are_open_at_once(tmp_path: Path, change: str) -> None:
    place = FilePlace(tmp_path / "rounds.db")
    with place.open() as store:
        fill(store, np.zeros((4_200, 3), np.float32))
        updates = store.kept_updates("r-1", 3)
        place.execute(f"{change} WHERE proplet_id = 'p-00001'")
        with pytest.raises((ValueError, StoreError)):
            list(updates.blocks())


def test_what_a_strategy_remembers_is_its_own_and_goes_with_the_model(place: Place) -> None:
    uri = "fl/models/global_model_v1"
    numbers = np.random.default_rng(0).normal(size=1000)
    with place.open() as store, store.transaction():
        store.put_strategy_state(uri, "sha a", KeptState({"m": numbers}, {"rounds": 1 / 3}))
        store.put_model(uri, b"{}", None)
    with place.open() as store:
        found = store.strategy_state(uri, "sha a")
        assert found is not None
        assert found.numbers == {"rounds": 1 / 3}
        np.testing.assert_array_equal(found.arrays["m"], numbers)
        assert store.strategy_state(uri, "sha b") is None
        assert store.strategy_state("fl/models/global_model_v2", "sha a") is None
        with store.transaction():
            store.put_model("fl/models/global_model_v2", b"{}", None)
            budget = PruneBudget(1_000_000)
            store.prune_models(1, (), budget)
        assert store.strategy_state(uri, "sha a") is None
        assert budget.left_bytes < 1_000_000 - numbers.nbytes, "its bytes are counted"


def test_a_check_counts_what_strategies_remember(tmp_path: Path) -> None:
    path = tmp_path / "rounds.db"
    uri = "fl/models/global_model_v1"
    with closing(RoundStore(path)) as store:
        with store.transaction():
            store.put_strategy_state(uri, "sha a", KeptState({}, {"rounds": 1.0}))
            store.put_model(uri, b"{}", None)
        assert check_rounds(path).endswith("1 models, 1 strategy_states")
        with store.transaction():
            store.put_model("fl/models/global_model_v2", b"{}", None)
            store.prune_models(1, (), PruneBudget(1_000_000))
        assert check_rounds(path).endswith("1 models")


def test_a_state_of_no_model_is_not_kept(place: Place) -> None:
    with place.open() as store:
        with pytest.raises(StoreError), store.transaction():
            store.put_strategy_state("fl/models/nowhere", "sha", KeptState({}, {"rounds": 1.0}))
        assert store.strategy_state("fl/models/nowhere", "sha") is None
