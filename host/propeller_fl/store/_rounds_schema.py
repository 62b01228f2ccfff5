"""The tables of the coordinator's database, and how an older file gets to them.

``ended_no`` counts the rounds in the order they ended, and is NULL in one that has not. A round is
in ``pruned_rounds`` from the moment its record begins to go; its id stays there for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

VERSION: Final = 3

_PRUNING: Final = """
CREATE UNIQUE INDEX rounds_by_end ON rounds (ended_no);
CREATE TABLE pruned_rounds (
    round_id TEXT PRIMARY KEY, start_sha256 TEXT NOT NULL, phase TEXT NOT NULL) WITHOUT ROWID;
CREATE VIEW kept_rounds AS SELECT * FROM rounds WHERE NOT EXISTS (
    SELECT 1 FROM pruned_rounds WHERE pruned_rounds.round_id = rounds.round_id)
"""

SCHEMA: Final = f"""
CREATE TABLE rounds (
    round_id TEXT PRIMARY KEY, start TEXT NOT NULL, base_shapes TEXT NOT NULL,
    opened_at_s REAL NOT NULL, phase TEXT NOT NULL, outcome TEXT, detail TEXT NOT NULL,
    complete TEXT, ended_no INTEGER, base_sha256 TEXT NOT NULL DEFAULT '');
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
{_PRUNING}
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
        2: "ALTER TABLE rounds ADD COLUMN base_sha256 TEXT NOT NULL DEFAULT ''",
    }
)
