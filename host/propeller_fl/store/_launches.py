"""What the manager must not forget: rounds it was asked for, tasks it has sent, proplets it knows.

The manager hands over changes as values; a batch of them is one transaction, durable on return.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from propeller_fl.store._database import Database, unicode
from propeller_fl.wire import Discovery, RoundStart

_KEPT_S: Final = 30 * 86_400.0
LAUNCHES_VERSION: Final = 3
_SCHEMA: Final = """
CREATE TABLE rounds (
    round_id TEXT NOT NULL, start_sha256 TEXT NOT NULL, start TEXT NOT NULL,
    phase TEXT NOT NULL, image_sha256 TEXT NOT NULL, received_at_s REAL NOT NULL,
    model_sha256 TEXT NOT NULL DEFAULT '', deadline_at_s REAL NOT NULL DEFAULT 0,
    image_pinned TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (round_id, start_sha256)) WITHOUT ROWID;
CREATE INDEX rounds_by_phase ON rounds (phase);
CREATE TABLE launches (
    round_id TEXT NOT NULL, proplet_id TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (round_id, proplet_id)) WITHOUT ROWID;
CREATE TABLE proplets (
    proplet_id TEXT PRIMARY KEY, namespace TEXT NOT NULL, metadata TEXT NOT NULL,
    created_at_s REAL NOT NULL) WITHOUT ROWID
"""
_MIGRATIONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: """
ALTER TABLE rounds ADD COLUMN model_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE rounds ADD COLUMN deadline_at_s REAL NOT NULL DEFAULT 0
""",
        2: "ALTER TABLE rounds ADD COLUMN image_pinned TEXT NOT NULL DEFAULT ''",
    }
)


class LaunchPhase(StrEnum):
    """Where the manager stands with a start. Of one round id only one gets past WAITING."""

    WAITING = "waiting"  # for the coordinator to open the round
    OPEN = "open"
    CLOSED = "closed"


class LaunchState(StrEnum):
    """How far a task that went out has come."""

    SENT = "sent"  # the broker has it
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StartTaken:
    """A start is remembered, WAITING. One that is known already stays as it is."""

    start: RoundStart
    start_sha256: str


@dataclass(frozen=True, slots=True)
class StartDropped:
    """The coordinator refused this start, or opened another of the same id."""

    round_id: str
    start_sha256: str


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """The coordinator opened the round with this start, on a model with this digest, until then
    (seconds since the epoch). Empty and 0 where it did not say. It may say so again."""

    round_id: str
    start_sha256: str
    model_sha256: str = ""
    deadline_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageFixed:
    """The module that all tasks of an open round run, before and after a restart; ``pinned`` leads
    to it even where the start's own reference does not any more (a tag that was moved)."""

    round_id: str
    image_sha256: str
    pinned: str = ""


@dataclass(frozen=True, slots=True)
class TaskMoved:
    """One task of an open round; ``error`` is the proplet's, when it failed."""

    round_id: str
    proplet_id: str
    state: LaunchState
    error: str = ""


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """The open round of this id has ended; what is known of its tasks stays."""

    round_id: str


@dataclass(frozen=True, slots=True)
class PropletSeen:
    """A proplet introduced itself."""

    discovery: Discovery


LaunchChange = (
    StartTaken | StartDropped | RoundOpened | ImageFixed | TaskMoved | RoundClosed | PropletSeen
)


@dataclass(frozen=True, slots=True)
class LaunchedTask:
    """A task that went out, as the store has it."""

    proplet_id: str
    state: LaunchState
    error: str


@dataclass(frozen=True, slots=True)
class SavedLaunch:
    """A start, as the store has it. ``tasks`` holds those that went out, by proplet id;
    ``model_sha256`` and ``deadline_at_s`` are what the coordinator opened it with."""

    start: RoundStart
    start_sha256: str
    phase: LaunchPhase
    image_sha256: str
    tasks: tuple[LaunchedTask, ...]
    model_sha256: str = ""
    deadline_at_s: float = 0.0
    image_pinned: str = ""


class LaunchStore:
    """The manager's database. One thread at a time; raises :class:`StoreError`, and
    :class:`DamagedStoreError` when it holds what nobody wrote.

    ``database`` is a file, of which what is older than 30 days is forgotten when it is opened, or
    a connection to read from (:func:`open_to_read`). ``clock`` gives seconds since the epoch.
    """

    def __init__(
        self, database: Path | sqlite3.Connection, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._db = Database(database, _SCHEMA, LAUNCHES_VERSION, _MIGRATIONS)
        self._clock = clock
        if not isinstance(database, Path):
            return
        try:
            self._prune(clock() - _KEPT_S)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Nothing may be called afterwards."""
        self._db.close()

    def commit(self, changes: Iterable[LaunchChange]) -> None:
        """All of ``changes``, in order, or none; durable on return."""
        with self._db.transaction():
            for change in changes:
                self._apply(change)

    def unfinished(self) -> list[SavedLaunch]:
        """Every start that is WAITING or OPEN, oldest first."""
        rows = self._db.rows(
            "SELECT round_id, start_sha256 FROM rounds WHERE phase IN (?, ?)"
            " ORDER BY received_at_s, round_id, start_sha256",
            LaunchPhase.WAITING.value,
            LaunchPhase.OPEN.value,
        )
        found = [self._load(str(round_id), str(sha256)) for round_id, sha256 in list(rows)]
        return [launch for launch in found if launch is not None]

    def find(self, round_id: str) -> SavedLaunch | None:
        """The start that was opened under this id, ended or not; ``None`` if none was."""
        row = self._db.execute(
            "SELECT start_sha256 FROM rounds WHERE round_id = ? AND phase != ?",
            round_id,
            LaunchPhase.WAITING.value,
        ).fetchone()
        return None if row is None else self._load(round_id, row[0])

    def closed_start(self, round_id: str) -> str:
        """The digest of the start whose round was opened under this id and has ended, or empty."""
        row = self._db.execute(
            "SELECT start_sha256 FROM rounds WHERE round_id = ? AND phase = ?",
            round_id,
            LaunchPhase.CLOSED.value,
        ).fetchone()
        return "" if row is None else str(row[0])

    def proplets(self) -> list[Discovery]:
        """Every proplet that introduced itself, those of longest ago first."""
        rows = self._db.rows(
            "SELECT proplet_id, namespace, metadata FROM proplets ORDER BY created_at_s"
        )
        with self._db.as_written():
            return [
                Discovery(str(proplet_id), str(namespace), json.loads(str(metadata)))
                for proplet_id, namespace, metadata in rows
            ]

    def _apply(self, change: LaunchChange) -> None:
        match change:
            case StartTaken(start, start_sha256):
                self._db.execute(
                    "INSERT OR IGNORE INTO rounds"
                    " (round_id, start_sha256, start, phase, image_sha256, received_at_s)"
                    " VALUES (?, ?, ?, ?, '', ?)",
                    start.round_id,
                    start_sha256,
                    start.encode().decode(),
                    LaunchPhase.WAITING.value,
                    self._clock(),
                )
            case StartDropped(round_id, start_sha256):
                self._db.execute(
                    "DELETE FROM rounds WHERE round_id = ? AND start_sha256 = ? AND phase = ?",
                    round_id,
                    start_sha256,
                    LaunchPhase.WAITING.value,
                )
            case RoundOpened(round_id, start_sha256, model_sha256, deadline_at_s):
                self._db.execute(
                    "UPDATE rounds SET phase = ?, model_sha256 = ?, deadline_at_s = ?"
                    " WHERE round_id = ? AND start_sha256 = ?",
                    LaunchPhase.OPEN.value,
                    model_sha256,
                    deadline_at_s,
                    round_id,
                    start_sha256,
                )
            case ImageFixed(round_id, image_sha256, pinned):
                self._db.execute(
                    "UPDATE rounds SET image_sha256 = ?, image_pinned = ?"
                    " WHERE round_id = ? AND phase = ?",
                    image_sha256,
                    pinned,
                    round_id,
                    LaunchPhase.OPEN.value,
                )
            case TaskMoved(round_id, proplet_id, state, error):
                self._db.execute(
                    "INSERT OR REPLACE INTO launches VALUES (?, ?, ?, ?)",
                    round_id,
                    proplet_id,
                    state.value,
                    unicode(error),
                )
            case RoundClosed(round_id):
                self._db.execute(
                    "UPDATE rounds SET phase = ? WHERE round_id = ? AND phase = ?",
                    LaunchPhase.CLOSED.value,
                    round_id,
                    LaunchPhase.OPEN.value,
                )
            case PropletSeen(discovery):
                self._db.execute(
                    "INSERT OR REPLACE INTO proplets VALUES (?, ?, ?, ?)",
                    discovery.proplet_id,
                    unicode(discovery.namespace),
                    json.dumps(dict(discovery.metadata)),
                    self._clock(),
                )

    def _load(self, round_id: str, start_sha256: str) -> SavedLaunch | None:
        row = self._db.execute(
            "SELECT start, phase, image_sha256, model_sha256, deadline_at_s, image_pinned"
            " FROM rounds WHERE round_id = ? AND start_sha256 = ?",
            round_id,
            start_sha256,
        ).fetchone()
        if row is None:
            return None
        start, phase, image_sha256, model_sha256, deadline_at_s, image_pinned = row
        tasks: tuple[LaunchedTask, ...] = ()
        if phase != LaunchPhase.WAITING:
            rows = self._db.rows(
                "SELECT proplet_id, state, error FROM launches WHERE round_id = ?"
                " ORDER BY proplet_id",
                round_id,
            )
            with self._db.as_written():
                tasks = tuple(
                    LaunchedTask(str(proplet_id), LaunchState(str(state)), str(error))
                    for proplet_id, state, error in rows
                )
        with self._db.as_written():
            return SavedLaunch(
                RoundStart.decode(start.encode()),
                start_sha256,
                LaunchPhase(phase),
                image_sha256,
                tasks,
                model_sha256,
                deadline_at_s,
                image_pinned,
            )

    def _prune(self, before_s: float) -> None:
        with self._db.transaction():
            self._db.execute("DELETE FROM rounds WHERE received_at_s < ?", before_s)
            self._db.execute(
                "DELETE FROM launches WHERE round_id NOT IN (SELECT round_id FROM rounds)"
            )
            self._db.execute("DELETE FROM proplets WHERE created_at_s < ?", before_s)
