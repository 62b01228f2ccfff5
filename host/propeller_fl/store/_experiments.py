"""What the experiments' service must not forget: experiments, their rounds, and who introduced
itself.

A round's row is written before the round is asked for, and its completion before the next one is.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl.store._database import Database, unicode
from propeller_fl.wire import (
    Discovery,
    ExperimentPhase,
    ExperimentStart,
    RoundComplete,
    RoundStart,
)

EXPERIMENTS_VERSION: Final = 1
_UNFINISHED: Final = tuple(phase.value for phase in ExperimentPhase if not phase.ended)
_MAX_PROPLETS: Final = (
    200_000  # beyond it those that introduced themselves longest ago are forgotten
)
_SCHEMA: Final = """
CREATE TABLE experiments (
    experiment_id TEXT PRIMARY KEY, start_sha256 TEXT NOT NULL, start TEXT NOT NULL,
    phase TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    created_at_s REAL NOT NULL, changed_at_s REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX experiments_by_time ON experiments (created_at_s);
CREATE TABLE rounds (
    experiment_id TEXT NOT NULL REFERENCES experiments, position INTEGER NOT NULL,
    round_id TEXT NOT NULL UNIQUE, start TEXT NOT NULL, begun_at_s REAL NOT NULL,
    complete TEXT NOT NULL DEFAULT '', ended_at_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (experiment_id, position)) WITHOUT ROWID;
CREATE TABLE proplets (
    proplet_id TEXT PRIMARY KEY, metadata TEXT NOT NULL, created_at_s REAL NOT NULL) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class SavedRound:
    """A round of an experiment; ``complete`` is ``None`` while it is under way. Times are seconds
    since the epoch."""

    start: RoundStart
    begun_at_s: float
    complete: RoundComplete | None
    ended_at_s: float


@dataclass(frozen=True, slots=True)
class SavedExperiment:
    """An experiment, without its rounds."""

    start: ExperimentStart
    start_sha256: str
    phase: ExperimentPhase
    reason: str
    detail: str
    created_at_s: float
    changed_at_s: float


class ExperimentStore:
    """The database of experiments. One thread at a time; raises :class:`StoreError`, and
    :class:`DamagedStoreError` when it holds what nobody wrote.

    ``database`` is a file, or a connection to read from (:func:`open_to_read`).
    """

    def __init__(self, database: Path | sqlite3.Connection) -> None:
        self._db = Database(database, _SCHEMA, EXPERIMENTS_VERSION)

    def close(self) -> None:
        """Nothing may be called afterwards."""
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """What is written inside is durable at its end, or not there at all."""
        return self._db.transaction()

    def add(self, start: ExperimentStart, now_s: float) -> None:
        """A new experiment, which runs."""
        self._db.execute(
            "INSERT INTO experiments VALUES (?, ?, ?, ?, '', '', ?, ?)",
            start.experiment_id,
            start.digest(),
            start.encode().decode(),
            ExperimentPhase.RUNNING.value,
            now_s,
            now_s,
        )

    def move(
        self, experiment_id: str, phase: ExperimentPhase, reason: str, detail: str, now_s: float
    ) -> None:
        """It stands somewhere else now."""
        self._db.execute(
            "UPDATE experiments SET phase = ?, reason = ?, detail = ?, changed_at_s = ?"
            " WHERE experiment_id = ?",
            phase.value,
            unicode(reason),
            unicode(detail),
            now_s,
            experiment_id,
        )

    def begin_round(self, experiment_id: str, start: RoundStart, now_s: float) -> None:
        """It is about to ask for this round."""
        self._db.execute(
            "INSERT INTO rounds (experiment_id, position, round_id, start, begun_at_s)"
            " SELECT ?, 1 + (SELECT count(*) FROM rounds WHERE experiment_id = ?), ?, ?, ?",
            experiment_id,
            experiment_id,
            start.round_id,
            start.encode().decode(),
            now_s,
        )

    def end_round(self, complete: RoundComplete, now_s: float) -> None:
        """A round of an experiment has ended."""
        self._db.execute(
            "UPDATE rounds SET complete = ?, ended_at_s = ? WHERE round_id = ?",
            complete.encode().decode(),
            now_s,
            complete.round_id,
        )

    def find(self, experiment_id: str) -> SavedExperiment | None:
        """``None`` when there is none of that id."""
        found = self._experiments("WHERE experiment_id = ?", experiment_id)
        return found[0] if found else None

    def unfinished(self) -> list[SavedExperiment]:
        """All that have not ended, the oldest first."""
        marks = ", ".join("?" for _ in _UNFINISHED)
        return self._experiments(f"WHERE phase IN ({marks}) ORDER BY created_at_s", *_UNFINISHED)

    def newest(self, limit: int) -> list[SavedExperiment]:
        """The newest first, ended or not."""
        return self._experiments("ORDER BY created_at_s DESC LIMIT ?", limit)

    def rounds(self, experiment_id: str) -> list[SavedRound]:
        """Its rounds, in the order in which they were begun."""
        rows = self._db.rows(
            "SELECT start, begun_at_s, complete, ended_at_s FROM rounds"
            " WHERE experiment_id = ? ORDER BY position",
            experiment_id,
        )
        with self._db.as_written():
            return [
                SavedRound(
                    RoundStart.decode(str(start).encode()),
                    float(str(begun_at_s)),
                    RoundComplete.decode(str(complete).encode()) if complete else None,
                    float(str(ended_at_s)),
                )
                for start, begun_at_s, complete, ended_at_s in rows
            ]

    def put_proplet(self, discovery: Discovery, now_s: float) -> None:
        """A proplet introduced itself."""
        self._db.execute(
            "INSERT OR REPLACE INTO proplets VALUES (?, ?, ?)",
            discovery.proplet_id,
            json.dumps(dict(discovery.metadata)),
            now_s,
        )

    def proplets(self) -> dict[str, dict[str, str]]:
        """What each proplet introduced itself with, by id; those of longest ago, where they are too
        many, are forgotten."""
        self._db.execute(
            "DELETE FROM proplets WHERE proplet_id IN (SELECT proplet_id FROM proplets"
            " ORDER BY created_at_s DESC LIMIT -1 OFFSET ?)",
            _MAX_PROPLETS,
        )
        rows = self._db.rows("SELECT proplet_id, metadata FROM proplets")
        with self._db.as_written():
            return {str(proplet_id): json.loads(str(metadata)) for proplet_id, metadata in rows}

    def _experiments(self, which: str, *values: object) -> list[SavedExperiment]:
        rows = self._db.rows(
            "SELECT start, start_sha256, phase, reason, detail, created_at_s, changed_at_s"
            f" FROM experiments {which}",
            *values,
        )
        with self._db.as_written():
            return [
                SavedExperiment(
                    ExperimentStart.decode(str(start).encode()),
                    str(sha256),
                    ExperimentPhase(str(phase)),
                    str(reason),
                    str(detail),
                    float(str(created_at_s)),
                    float(str(changed_at_s)),
                )
                for start, sha256, phase, reason, detail, created_at_s, changed_at_s in rows
            ]
