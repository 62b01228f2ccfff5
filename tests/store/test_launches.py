"""The manager's memory, across openings."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from propeller_fl.errors import DamagedStoreError
from propeller_fl.store._launches import (
    ImageFixed,
    LaunchPhase,
    LaunchState,
    LaunchStore,
    PropletSeen,
    RoundClosed,
    RoundOpened,
    StartDropped,
    StartTaken,
    TaskMoved,
)
from propeller_fl.wire import Discovery, RoundStart

VERSION_1 = """
CREATE TABLE rounds (
    round_id TEXT NOT NULL, start_sha256 TEXT NOT NULL, start TEXT NOT NULL,
    phase TEXT NOT NULL, image_sha256 TEXT NOT NULL, received_at_s REAL NOT NULL,
    PRIMARY KEY (round_id, start_sha256)) WITHOUT ROWID;
CREATE INDEX rounds_by_phase ON rounds (phase);
CREATE TABLE launches (
    round_id TEXT NOT NULL, proplet_id TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (round_id, proplet_id)) WITHOUT ROWID;
CREATE TABLE proplets (
    proplet_id TEXT PRIMARY KEY, namespace TEXT NOT NULL, metadata TEXT NOT NULL,
    created_at_s REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version=1;
"""
DAY_S = 86_400.0
START = RoundStart(
    "r-1", "fl/models/global_model_v0", "builtin:linear", ("p",), {"lr": 0.5}, 1, 9.5
)
SHA256 = START.digest()


@contextmanager
def opened(directory: Path, at_s: float = 0.0) -> Iterator[LaunchStore]:
    store = LaunchStore(directory / "launches.db", clock=lambda: at_s)
    try:
        yield store
    finally:
        store.close()


def test_a_round_from_start_to_end(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, SHA256)])
    with opened(tmp_path) as store:
        [saved] = store.unfinished()
        assert (saved.start, saved.start_sha256) == (START, SHA256)
        assert saved.phase is LaunchPhase.WAITING
        assert store.find("r-1") is None
        store.commit([RoundOpened("r-1", SHA256), ImageFixed("r-1", "ab", "oci://r/x@y")])
        store.commit([TaskMoved("r-1", "p", LaunchState.SENT)])
    with opened(tmp_path) as store:
        [saved] = store.unfinished()
        assert (saved.phase, saved.image_sha256) == (LaunchPhase.OPEN, "ab")
        assert saved.image_pinned == "oci://r/x@y"
        [task] = saved.tasks
        assert (task.proplet_id, task.state, task.error) == ("p", LaunchState.SENT, "")
        assert store.closed_start("r-1") == ""
        store.commit([TaskMoved("r-1", "p", LaunchState.FAILED, "oops"), RoundClosed("r-1")])
    with opened(tmp_path) as store:
        assert store.unfinished() == []
        assert store.closed_start("r-1") == SHA256
        found = store.find("r-1")
        assert found is not None
        assert found.tasks[0].error == "oops"


def test_what_a_round_is_about_is_known_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, SHA256), RoundOpened("r-1", SHA256, "cd", 17.5)])
    with opened(tmp_path) as store:
        [saved] = store.unfinished()
        assert (saved.model_sha256, saved.deadline_at_s) == ("cd", 17.5)
        store.commit([RoundOpened("r-1", SHA256, "ef", 18.5)])
        [saved] = store.unfinished()
        assert (saved.phase, saved.model_sha256) == (LaunchPhase.OPEN, "ef")


def test_a_file_of_version_1_is_taken_over_as_it_is(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "launches.db")) as db:
        db.executescript(VERSION_1)
        row = ("r-1", SHA256, START.encode().decode(), "open", "ab", 1.0)
        db.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO launches VALUES ('r-1', 'p', 'sent', '')")
        db.execute("INSERT INTO proplets VALUES ('p', 'lab', '{}', 1.0)")
        db.commit()
    for _ in range(2):
        with opened(tmp_path) as store:
            saved = store.find("r-1")
            assert saved is not None
            assert (saved.start, saved.image_sha256, len(saved.tasks)) == (START, "ab", 1)
            assert (saved.model_sha256, saved.deadline_at_s) == ("", 0.0)
            assert saved.image_pinned == ""
            assert store.proplets() == [Discovery("p", "lab")]
            store.commit([StartTaken(replace(START, round_id="r-2"), "new")])


def test_a_start_taken_again_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, SHA256), RoundOpened("r-1", SHA256)])
        store.commit([StartTaken(START, SHA256)])
        assert store.unfinished()[0].phase is LaunchPhase.OPEN


def test_only_a_waiting_start_can_be_dropped(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, "a"), StartTaken(START, "b"), RoundOpened("r-1", "a")])
        store.commit([StartDropped("r-1", "a"), StartDropped("r-1", "b")])
        assert [launch.start_sha256 for launch in store.unfinished()] == ["a"]


def test_all_or_nothing(tmp_path: Path) -> None:
    def changes() -> Iterator[StartTaken]:
        yield StartTaken(START, SHA256)
        raise KeyError("half way")

    with opened(tmp_path) as store:
        with pytest.raises(KeyError):
            store.commit(changes())
        assert store.unfinished() == []


def test_proplets_are_known_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([PropletSeen(Discovery("p", "lab", {"arch": "x"}))])
        store.commit([PropletSeen(Discovery("p", "lab", {"own_start_topic": "true"}))])
    with opened(tmp_path) as store:
        assert store.proplets() == [Discovery("p", "lab", {"own_start_topic": "true"})]


def test_the_oldest_first(tmp_path: Path) -> None:
    for at_s, name in ((2.0, "b"), (1.0, "a"), (3.0, "c")):
        with opened(tmp_path, at_s) as store:
            store.commit([StartTaken(START, name), PropletSeen(Discovery(name))])
    with opened(tmp_path) as store:
        assert [launch.start_sha256 for launch in store.unfinished()] == ["a", "b", "c"]
        assert [discovery.proplet_id for discovery in store.proplets()] == ["a", "b", "c"]


def test_what_is_older_than_thirty_days_is_forgotten(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, SHA256), RoundOpened("r-1", SHA256)])
        store.commit([TaskMoved("r-1", "p", LaunchState.SENT), RoundClosed("r-1")])
        store.commit([PropletSeen(Discovery("p"))])
    with opened(tmp_path, 30 * DAY_S) as store:
        assert store.find("r-1") is not None
    with opened(tmp_path, 30 * DAY_S + 1) as store:
        assert store.find("r-1") is None
        assert store.proplets() == []
        store.commit([StartTaken(START, SHA256), RoundOpened("r-1", SHA256)])
        assert store.unfinished()[0].tasks == ()


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "launches.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DamagedStoreError, match="not a database"):
        LaunchStore(tmp_path / "launches.db")


def test_words_that_are_not_unicode_are_kept_as_their_escapes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, SHA256), RoundOpened("r-1", SHA256)])
        store.commit([TaskMoved("r-1", "p", LaunchState.FAILED, "half \ud800")])
        store.commit([PropletSeen(Discovery("p", "\udfff", {"\ud800": "\ud800"}))])
        found = store.find("r-1")
        assert found is not None
        assert found.tasks[0].error == r"half \ud800"
        assert store.proplets() == [Discovery("p", r"\udfff", {"\ud800": "\ud800"})]


@pytest.mark.parametrize(
    "damage",
    ["rounds SET start = '{'", "rounds SET phase = 'opem'", "launches SET state = 'x'"],
)
def test_a_row_that_nobody_wrote(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as store:
        store.commit([StartTaken(START, SHA256), RoundOpened("r-1", SHA256)])
        store.commit([TaskMoved("r-1", "p", LaunchState.SENT)])
        with contextlib.closing(sqlite3.connect(tmp_path / "launches.db")) as other:
            other.execute(f"UPDATE {damage}")
            other.commit()
        with pytest.raises(DamagedStoreError, match="a row cannot be read"):
            store.find("r-1")
