"""Tasks that were asked for over HTTP, with what became of them: rows in SQLite."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from propeller_fl.errors import StoreError
from propeller_fl.wire import TaskResult, TaskStart

_MAX_TASKS: Final = 10_000  # the oldest that has ended makes room for one more
_NEVER: Final = "0001-01-01T00:00:00Z"  # as Propeller writes a time that is not known
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tasks (
  number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, state INTEGER NOT NULL,
  document TEXT NOT NULL, start BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS tasks_state ON tasks (state, number);
"""


class TaskState(IntEnum):
    """Propeller's numbers."""

    PENDING = 0
    SCHEDULED = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    SKIPPED = 5
    INTERRUPTED = 6


ENDED: Final = (TaskState.COMPLETED, TaskState.FAILED, TaskState.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Task:
    """``start`` is what goes to a proplet; its ``proplet_id`` is empty as long as nobody was
    chosen."""

    start: TaskStart
    state: TaskState = TaskState.PENDING
    results: str | None = None
    error: str = ""
    created_at: str = field(default_factory=lambda: now())
    updated_at: str = field(default_factory=lambda: now())
    start_time: str = _NEVER
    finish_time: str = _NEVER

    def document(self) -> dict[str, Any]:
        """As Propeller shows a task. The module itself is left out."""
        start = self.start
        shown: dict[str, Any] = {
            "id": start.id,
            "name": start.name,
            "kind": "standard",
            "state": int(self.state),
            "image_url": start.image_url,
            "cli_args": list(start.cli_args),
            "inputs": list(start.inputs),
            "env": dict(start.env),
            "daemon": start.daemon,
            "broadcast": start.broadcast,
            "proplet_id": start.proplet_id,
            "mode": start.mode,
            "results": self.results,
            "error": self.error,
        }
        kept = {name: value for name, value in shown.items() if value not in ("", None, {})}
        times = ("start_time", "finish_time", "created_at", "updated_at")
        return kept | {name: getattr(self, name) for name in times}

    def outline(self) -> dict[str, Any]:
        """The same for who may not start tasks: what they are given may hold secrets."""
        given = ("env", "cli_args", "inputs")
        return {name: value for name, value in self.document().items() if name not in given}


class TaskBook:
    """All tasks, by id. Any thread. Raises ``StoreError``."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        self._path = path

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def put(self, task: Task) -> Task:
        """Keep a task, new or changed."""
        values = (task.start.id, int(task.state), json.dumps(_saved(task)), task.start.encode())
        with self._lock, _told(self._path):
            self._db.execute(
                "INSERT INTO tasks (id, state, document, start) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET state=excluded.state, document=excluded.document,"
                " start=excluded.start",
                values,
            )
            self._db.execute(
                "DELETE FROM tasks WHERE number IN (SELECT number FROM tasks"
                " WHERE state IN (3, 4, 6) ORDER BY number"
                " LIMIT max(0, (SELECT count(*) FROM tasks) - ?))",
                (_MAX_TASKS,),
            )
        return task

    def get(self, task_id: str) -> Task | None:
        with self._lock, _told(self._path):
            row = self._db.execute(
                "SELECT state, document, start FROM tasks WHERE id = ?", (task_id,)
            ).fetchone()
        return None if row is None else _loaded(*row)

    def page(self, offset: int, limit: int) -> tuple[int, list[Task]]:
        """How many there are, and some of them, the oldest first."""
        with self._lock, _told(self._path):
            (total,) = self._db.execute("SELECT count(*) FROM tasks").fetchone()
            rows = self._db.execute(
                "SELECT state, document, start FROM tasks ORDER BY number LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
        return total, [_loaded(*row) for row in rows]

    def delete(self, task_id: str) -> bool:
        """False when there is none."""
        with self._lock, _told(self._path):
            return self._db.execute("DELETE FROM tasks WHERE id = ?", (task_id,)).rowcount > 0

    def finish(self, result: TaskResult) -> None:
        """A proplet has said how a task ended. One not of here, or that has ended, is ignored."""
        task = self.get(result.task_id)
        if task is None or task.state in (TaskState.COMPLETED, TaskState.FAILED):
            return
        state = TaskState.FAILED if result.error else TaskState.COMPLETED
        if task.state is TaskState.INTERRUPTED:
            state = TaskState.INTERRUPTED
        self.put(
            replace(
                task,
                state=state,
                results=result.results or None,
                error=result.error,
                updated_at=now(),
                finish_time=now(),
            )
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _saved(task: Task) -> dict[str, Any]:
    names = ("results", "error", "created_at", "updated_at", "start_time", "finish_time")
    return {name: getattr(task, name) for name in names}


def _loaded(state: int, document: str, start: bytes) -> Task:
    return Task(TaskStart.decode(start), TaskState(state), **json.loads(document))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{path}: {error}", hint="is the disk full, or not ours to write?"
        ) from error
