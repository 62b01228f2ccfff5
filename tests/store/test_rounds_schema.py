"""A coordinator's database of an older program is taken over as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from propeller_fl.errors import StoreError
from propeller_fl.rounds import Opening
from propeller_fl.store import KeptState, PruneBudget, RoundStore
from propeller_fl.wire import Outcome, Phase, RoundComplete, RoundStart

VERSION_1 = """
CREATE TABLE rounds (
    round_id TEXT PRIMARY KEY, start TEXT NOT NULL, base_shapes TEXT NOT NULL,
    opened_at_s REAL NOT NULL, phase TEXT NOT NULL, outcome TEXT, detail TEXT NOT NULL,
    complete TEXT);
CREATE INDEX rounds_by_phase ON rounds (phase);
CREATE TABLE updates (
    round_id TEXT NOT NULL REFERENCES rounds, proplet_id TEXT NOT NULL, sha256 TEXT NOT NULL,
    num_samples INTEGER NOT NULL, size_bytes INTEGER NOT NULL, metrics TEXT NOT NULL,
    vector BLOB NOT NULL, received_at_s REAL NOT NULL,
    PRIMARY KEY (round_id, proplet_id)) WITHOUT ROWID;
CREATE TABLE refusals (
    id INTEGER PRIMARY KEY, round_id TEXT NOT NULL REFERENCES rounds, proplet_id TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, at_s REAL NOT NULL);
CREATE INDEX refusals_by_round ON refusals (round_id);
CREATE TABLE models (
    uri TEXT PRIMARY KEY, version INTEGER, sha256 TEXT NOT NULL, body BLOB NOT NULL,
    round_id TEXT);
CREATE INDEX models_by_version ON models (version);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL,
    retain INTEGER NOT NULL);
PRAGMA user_version=1;
"""

# version 1 with what the second added
VERSION_2 = VERSION_1.replace("complete TEXT);", "complete TEXT, ended_no INTEGER);").replace(
    "PRAGMA user_version=1;",
    """
CREATE UNIQUE INDEX rounds_by_end ON rounds (ended_no);
CREATE TABLE pruned_rounds (
    round_id TEXT PRIMARY KEY, start_sha256 TEXT NOT NULL, phase TEXT NOT NULL) WITHOUT ROWID;
CREATE VIEW kept_rounds AS SELECT * FROM rounds WHERE NOT EXISTS (
    SELECT 1 FROM pruned_rounds WHERE pruned_rounds.round_id = rounds.round_id);
PRAGMA user_version=2;
""",
)
ENDED = {"r-1": 1, "r-2": 2}


def start(round_id: str) -> RoundStart:
    uri = "fl/models/global_model_v0"
    return RoundStart(round_id, uri, "builtin:linear", ("a", "b"), {"lr": 0.1}, 1, 30.0)


def complete(round_id: str) -> RoundComplete:
    return RoundComplete(round_id, Outcome.COMPLETE, 1, "fl/models/global_model_v1", 1, 10, "now")


@pytest.fixture(params=[1, 2])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Of that version: r-2 has ended after r-1, open has not, and a message is owed."""
    path = tmp_path / "rounds.db"
    db = sqlite3.connect(path)
    db.executescript(VERSION_1 if request.param == 1 else VERSION_2)
    for round_id, opened_at_s, phase in (
        ("r-2", 200.0, "complete"),
        ("open", 50.0, "open"),
        ("r-1", 100.0, "failed"),
    ):
        ended = phase != "open"
        db.execute(
            "INSERT INTO rounds (round_id, start, base_shapes, opened_at_s, phase, outcome, detail,"
            " complete) VALUES (?, ?, '{\"w\": [1]}', ?, ?, ?, '', ?)",
            (
                round_id,
                start(round_id).encode().decode(),
                opened_at_s,
                phase,
                phase if ended else None,
                complete(round_id).encode().decode() if ended else None,
            ),
        )
        db.execute(
            "INSERT INTO updates VALUES (?, 'a', 'sha', 10, 77, '{}', ?, ?)",
            (round_id, b"\0" * 4, opened_at_s),
        )
        if request.param > 1 and ended:
            db.execute(
                "UPDATE rounds SET ended_no = ? WHERE round_id = ?", (ENDED[round_id], round_id)
            )
    db.execute("INSERT INTO refusals VALUES (NULL, 'r-1', 'c', 'not_participant', '', 101.0)")
    db.execute("INSERT INTO outbox (topic, payload, retain) VALUES ('t', x'01', 1)")
    db.commit()
    db.close()
    return path


def test_all_that_was_there_is_there(path: Path) -> None:
    store = RoundStore(path)
    [round_] = store.load_open_rounds()
    assert round_.opening == Opening(start("open"), 50.0, {"w": (1,)})
    assert list(round_.accepted) == ["a"]
    assert store.completion("r-2") == complete("r-2")
    assert [line.proplet_id for line in store.story("r-1")] == ["a", "c"]
    assert [owed.topic for owed in store.owed()] == ["t"]
    store.close()
    RoundStore(path).close()  # and a second time it is only opened


def test_a_round_gets_a_place_for_what_it_is_about(path: Path) -> None:
    opening = Opening(start("new"), 300.0, {"w": (1,)}, "ab" * 32)
    store = RoundStore(path)
    with store.transaction():
        store.open_round(opening)
    assert [r.opening.base_sha256 for r in store.load_open_rounds()] == ["", "ab" * 32]
    store.close()
    store = RoundStore(path)
    round_ = store.load_round("new")
    assert round_ is not None
    assert round_.opening == opening
    assert round_.status().model_sha256 == "ab" * 32
    store.close()


def test_rounds_that_ended_before_are_pruned_in_the_order_they_were_opened(path: Path) -> None:
    store = RoundStore(path)
    with store.transaction():
        assert store.prune_rounds(1, PruneBudget(1_000_000)) == ["r-1"]
    known = store.known_round("r-1")
    assert known is not None
    assert (known.start_sha256, known.phase, known.pruned) == (
        start("r-1").digest(),
        Phase.FAILED,
        True,
    )
    assert store.story("r-1") == []
    with store.transaction():
        store.save_completion(complete("open"))
        assert store.prune_rounds(1, PruneBudget(1_000_000)) == ["r-2"]
    store.close()


def test_strategies_find_updates_and_a_place_for_what_they_remember(path: Path) -> None:
    store = RoundStore(path)
    [(columns, block)] = store.kept_updates("open", 1).blocks()
    assert (columns, block.tolist()) == (slice(0, 1), [[0.0]])
    uri = "fl/models/global_model_v1"
    with store.transaction():
        store.put_model(uri, b"{}", None)
        store.put_strategy_state(uri, "sha", KeptState({}, {"rounds": 1.0}))
    assert store.strategy_state(uri, "sha") is not None
    store.close()


def test_a_file_that_cannot_be_brought_up_stays_as_it_is(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE strategy_arrays (somebody TEXT)")  # in the way of the last steps
    db.close()
    before = schema(path)
    with pytest.raises(StoreError, match="strategy_arrays"):
        RoundStore(path)
    assert schema(path) == before


def schema(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    found = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema ORDER BY name")]
    found.append(str(db.execute("PRAGMA user_version").fetchone()))
    db.close()
    return found
