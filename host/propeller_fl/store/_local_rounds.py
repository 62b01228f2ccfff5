"""What an aggregator must not forget: which local round does which task of the deployment upstream.

A row is written before its round is asked for. So a task that comes again, after a crash as well,
is done by the round that was begun for it, and by no second one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from propeller_fl.store._database import Database
from propeller_fl.wire import RoundStart

LOCAL_ROUNDS_VERSION: Final = 1
_KEPT: Final = 10_000  # the newest; the coordinator knows the ids of those before as well
_SCHEMA: Final = """
CREATE TABLE local_rounds (
    number INTEGER PRIMARY KEY AUTOINCREMENT, task_sha256 TEXT NOT NULL UNIQUE,
    round_id TEXT NOT NULL UNIQUE, start TEXT NOT NULL)
"""


class LocalRoundStore:
    """One thread at a time; raises :class:`StoreError`, and :class:`DamagedStoreError` when it
    holds what nobody wrote."""

    def __init__(self, database: Path) -> None:
        self._db = Database(database, _SCHEMA, LOCAL_ROUNDS_VERSION)

    def close(self) -> None:
        """Nothing may be called afterwards."""
        self._db.close()

    def find(self, task_sha256: str) -> RoundStart | None:
        """The round that was planned for this task, if one was."""
        rows = list(
            self._db.rows("SELECT start FROM local_rounds WHERE task_sha256 = ?", task_sha256)
        )
        with self._db.as_written():
            return RoundStart.decode(str(rows[0][0]).encode()) if rows else None

    def plan(self, task_sha256: str, make: Callable[[int, Known], RoundStart]) -> RoundStart:
        """Keep, durably, the start that ``make`` makes of the number of this round, counted from 1
        and never used twice, and of what tells the ids that are in use."""
        with self._db.transaction():
            [highest] = self._db.execute(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'local_rounds'"
            ).fetchone()
            start = make(int(highest) + 1, self._is_used)
            self._db.execute(
                "INSERT INTO local_rounds (task_sha256, round_id, start) VALUES (?, ?, ?)",
                task_sha256,
                start.round_id,
                start.encode().decode(),
            )
            self._db.execute("DELETE FROM local_rounds WHERE number <= ?", int(highest) + 1 - _KEPT)
        return start

    def _is_used(self, round_id: str) -> bool:
        found = self._db.execute("SELECT 1 FROM local_rounds WHERE round_id = ?", round_id)
        return found.fetchone() is not None


Known = Callable[[str], bool]
"""Whether a round of this id was planned before."""
