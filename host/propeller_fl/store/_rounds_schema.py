"""The tables of the coordinator's database, and how an older file gets to them.

``updates`` has row ids, so that a part of a vector can be read without the rest of it.
What a strategy remembers belongs to a model and goes with it.

``update_files`` are the updates that are files: offered, or ``whole`` and accepted, until their
round ends. ``model_files`` are the models made of them, until the model server has them.

``ended_no`` counts the rounds in the order they ended, and is NULL in one that has not. A round is
in ``pruned_rounds`` from the moment its record begins to go; its id stays there for good. So is an
id that was stopped before there was a round, with the phase ``refused`` and no digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

VERSION: Final = 4

_PRUNING: Final = """
CREATE UNIQUE INDEX rounds_by_end ON rounds (ended_no);
CREATE TABLE pruned_rounds (
    round_id TEXT PRIMARY KEY, start_sha256 TEXT NOT NULL, phase TEXT NOT NULL) WITHOUT ROWID;
CREATE VIEW kept_rounds AS SELECT * FROM rounds WHERE NOT EXISTS (
    SELECT 1 FROM pruned_rounds WHERE pruned_rounds.round_id = rounds.round_id)
"""

_UPDATES: Final = """
CREATE TABLE updates (
    round_id TEXT NOT NULL REFERENCES rounds, proplet_id TEXT NOT NULL, sha256 TEXT NOT NULL,
    num_samples INTEGER NOT NULL, size_bytes INTEGER NOT NULL, metrics TEXT NOT NULL,
    vector BLOB NOT NULL, received_at_s REAL NOT NULL,
    PRIMARY KEY (round_id, proplet_id))
"""

_STATES: Final = """
CREATE TABLE strategy_states (
    uri TEXT PRIMARY KEY REFERENCES models DEFERRABLE INITIALLY DEFERRED,
    strategy_sha256 TEXT NOT NULL, numbers TEXT NOT NULL);
CREATE TABLE strategy_arrays (
    id INTEGER PRIMARY KEY, uri TEXT NOT NULL REFERENCES strategy_states, name TEXT NOT NULL,
    array BLOB NOT NULL, UNIQUE (uri, name))
"""

_FILES: Final = """
CREATE TABLE update_files (
    round_id TEXT NOT NULL REFERENCES rounds, proplet_id TEXT NOT NULL, sha256 TEXT NOT NULL,
    document BLOB NOT NULL, whole INTEGER NOT NULL,
    PRIMARY KEY (round_id, proplet_id)) WITHOUT ROWID;
CREATE TABLE model_files (
    uri TEXT PRIMARY KEY, round_id TEXT NOT NULL, manifest BLOB NOT NULL) WITHOUT ROWID
"""

SCHEMA: Final = f"""
CREATE TABLE rounds (
    round_id TEXT PRIMARY KEY, start TEXT NOT NULL, base_shapes TEXT NOT NULL,
    opened_at_s REAL NOT NULL, phase TEXT NOT NULL, outcome TEXT, detail TEXT NOT NULL,
    complete TEXT, ended_no INTEGER, base_sha256 TEXT NOT NULL DEFAULT '',
    in_parts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX rounds_by_phase ON rounds (phase);
{_UPDATES};
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
{_PRUNING};
{_STATES};
{_FILES}
"""

MIGRATIONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: f"""
ALTER TABLE rounds ADD COLUMN ended_no INTEGER;
UPDATE rounds SET ended_no = ended.no FROM (
    SELECT round_id, row_number() OVER (ORDER BY opened_at_s, round_id) AS no
    FROM rounds WHERE phase IN ('complete', 'failed')) AS ended
WHERE rounds.round_id = ended.round_id;
{_PRUNING}
""",
        2: f"""
ALTER TABLE rounds ADD COLUMN base_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE updates RENAME TO updates_2;
{_UPDATES};
INSERT INTO updates SELECT * FROM updates_2;
DROP TABLE updates_2;
{_STATES}
""",
        3: f"""
ALTER TABLE rounds ADD COLUMN in_parts INTEGER NOT NULL DEFAULT 0;
{_FILES}
""",
    }
)
