"""The coordinator's store: it gives back what it was given, and a bad disk is an error."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from propeller_fl.errors import DamagedStoreError, StoreError
from propeller_fl.rounds import ClockTicked, Opening, Round, UpdateArrived, UpdateFacts, step
from propeller_fl.store import NewUpdate, RoundStore, check_rounds
from propeller_fl.wire import Outcome, Phase, RoundComplete, RoundStart
from tests.store.round_stores import FilePlace, Place

SHAPES = {"w": (2, 2), "b": ()}
START = RoundStart(
    "r-1", "fl/models/global_model_v0", "builtin:linear", ("a", "b"), {"lr": 0.1}, 2, 30.0
)


def facts(proplet_id: str, samples: int = 10) -> UpdateFacts:
    return UpdateFacts("r-1", proplet_id, START.model_uri, samples, SHAPES, f"sha {proplet_id}", 77)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coordinator" / "rounds.db"


def filled(place: Place) -> Round:
    """A store with one open round in which a is in and c was refused; returns that round."""
    round_ = Round(Opening(START, 1000.5, SHAPES))
    with place.open() as store, store.transaction():
        store.open_round(round_.opening)
        store.keep_updates(
            [NewUpdate(facts("a"), {"loss": 0.5}, np.arange(5, dtype=np.float32))], 1001.0
        )
        store.record_refusal("r-1", "c", "not_participant", "c does not take part", 1002.0)
    round_ = step(round_, UpdateArrived(facts("a"))).round
    return step(round_, UpdateArrived(facts("c"))).round


def test_a_round_comes_back_as_it_was(place: Place) -> None:
    expected = filled(place)
    with place.open() as store:
        [found] = store.load_open_rounds()
        assert found == expected
        [update] = store.updates("r-1")
        assert (update.proplet_id, update.num_samples, update.metrics) == ("a", 10, {"loss": 0.5})
        np.testing.assert_array_equal(update.vector, np.arange(5, dtype=np.float32))
        assert [(line.event, line.proplet_id) for line in store.story("r-1")] == [
            ("accepted", "a"),
            ("refused", "c"),
        ]


def test_an_ended_round_is_no_longer_open_and_keeps_its_completion(place: Place) -> None:
    ended = step(filled(place), ClockTicked(9e9)).round
    with place.open() as store:
        complete = RoundComplete(
            "r-1", Outcome.TIMEOUT, 1, "fl/models/global_model_v1", 1, 10, "now"
        )
        with store.transaction():
            store.save_phase(ended)
            store.save_completion(complete)
        assert store.load_round("r-1") == ended
        assert ended.phase is Phase.AGGREGATING
        assert store.completion("r-1") == complete
        assert [c for _, c in store.list_rounds(10)] == [complete]


def test_what_was_written_goes_from_the_log_into_the_file_when_there_is_time(
    tmp_path: Path,
) -> None:
    place = FilePlace(tmp_path / "rounds.db")
    alone = tmp_path / "alone" / "rounds.db"  # without its log, in which commits are at first
    alone.parent.mkdir()
    vector = np.zeros(1_000_000, np.float32)
    with place.open() as store:
        with store.transaction():
            store.open_round(Opening(START, 1.0, SHAPES))
            store.keep_updates([NewUpdate(facts(name), {}, vector) for name in "ab"], 2.0)
        shutil.copy(tmp_path / "rounds.db", alone)
        assert FilePlace(alone).execute("SELECT count(*) FROM updates") == [(0,)]
        store.tidy()
        shutil.copy(tmp_path / "rounds.db", alone)
    assert FilePlace(alone).execute("SELECT count(*) FROM updates") == [(2,)]


def test_updates_come_by_proplet_whatever_the_order_they_came_in(place: Place) -> None:
    with place.open() as store:
        with store.transaction():
            store.open_round(Opening(START, 1.0, SHAPES))
            for name in ("c", "a", "b"):
                store.keep_updates([NewUpdate(facts(name), {}, np.zeros(5, np.float32))], 2.0)
        assert [update.proplet_id for update in store.updates("r-1")] == ["a", "b", "c"]


def test_an_interrupted_transaction_leaves_nothing(place: Place) -> None:
    with place.open() as store:
        with contextlib.suppress(RuntimeError), store.transaction():
            store.open_round(Opening(START, 1.0, SHAPES))
            raise RuntimeError
        assert store.load_round("r-1") is None


def test_versions_rise_and_our_models_are_never_replaced(place: Place) -> None:
    with place.open() as store:
        assert store.latest_version() == -1
        store.put_model("fl/models/global_model_v3", b"theirs", None)
        store.put_model("fl/models/global_model_v3", b"theirs, later", None)
        assert store.model("fl/models/global_model_v3") == b"theirs, later"
        store.put_model("fl/models/global_model_v4", b"ours", "r-1")
        store.put_model("fl/models/global_model_v4", b"theirs", None)
        assert store.model("fl/models/global_model_v4") == b"ours"
        assert store.latest_version() == 4


def test_what_is_owed_survives_until_it_is_settled(place: Place) -> None:
    with place.open() as store:
        store.owe("a/b", b"1", retain=True)
        store.owe("c", b"2", retain=False)
    with place.open() as store:
        first, second = store.owed()
        assert (first.topic, first.payload, first.retain) == ("a/b", b"1", True)
        store.settle([first.id])
        assert store.owed() == [second]


def test_a_sound_store_is_said_to_be_sound(path: Path) -> None:
    filled(FilePlace(path))
    assert "is sound: 1 rounds, 1 updates, 0 models" in check_rounds(path)


def test_a_damaged_store_is_refused_and_says_what_to_do(path: Path) -> None:
    filled(FilePlace(path))
    data = path.read_bytes()
    page = int.from_bytes(data[16:18], "big")  # bytes, as a file of SQLite's says
    path.write_bytes(data[:page] + b"\xff" * page + data[2 * page :])
    with pytest.raises(DamagedStoreError):
        check_rounds(path)
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(DamagedStoreError, match="backup"):
        RoundStore(path)


def test_a_store_of_a_later_program_is_refused(path: Path) -> None:
    filled(FilePlace(path))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="schema 99"):
        RoundStore(path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        RoundStore(tmp_path / "file" / "rounds.db")
