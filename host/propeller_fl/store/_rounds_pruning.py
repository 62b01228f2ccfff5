"""Forgetting old rounds and models, a bounded piece at a time, within the caller's transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from propeller_fl.store._sql import Sql

_ROW_BYTES: Final = 16 * 1024  # what a row costs besides its contents
_MAX_ROUNDS: Final = 128  # in one step


@dataclass(slots=True)
class PruneBudget:
    """How much one step may still delete; a row counts as 16 KiB and its arrays or document.

    What is under way when it runs out is finished, so a step always gets somewhere.
    """

    left_bytes: int

    @property
    def spent(self) -> bool:
        return self.left_bytes <= 0

    @property
    def rows(self) -> int:
        """At most so many more rows."""
        return max(0, -(-self.left_bytes // _ROW_BYTES))

    def take(self, rows: int, size_bytes: int = 0) -> None:
        self.left_bytes -= rows * _ROW_BYTES + size_bytes

    def take_if_left(self, size_bytes: int) -> bool:
        """Take one more row, unless it is spent."""
        if self.spent:
            return False
        self.take(1, size_bytes)
        return True


def prune_rounds(db: Sql, keep: int, budget: PruneBudget) -> list[str]:
    """See :meth:`RoundStore.prune_rounds`."""
    stale = db.execute(
        "SELECT round_id, length(start), round_id IN (SELECT round_id FROM pruned_rounds)"
        " FROM rounds WHERE ended_no <= (SELECT max(ended_no) FROM rounds) - ?"
        " ORDER BY ended_no LIMIT ?",
        keep,
        _MAX_ROUNDS,
    ).fetchall()
    going: list[str] = []
    begun: list[str] = []
    for round_id, size_bytes, was_begun in stale:
        if budget.spent:
            break
        going.append(round_id)
        if not was_begun:
            begun.append(round_id)
            budget.take(1, size_bytes)
    if begun:
        _remember(db, begun)
    if going:
        _delete_records(db, going, budget)
    return begun


def prune_models(db: Sql, keep: int, bases: Iterable[str], budget: PruneBudget) -> None:
    """See :meth:`RoundStore.prune_models`."""
    oldest = oldest_kept_version(db, keep)
    if oldest is None:
        return
    stale = db.execute(
        'SELECT uri, length(body) + (SELECT coalesce(sum(length("array")), 0)'
        " FROM strategy_arrays WHERE strategy_arrays.uri = models.uri)"
        " FROM models WHERE version < ?"
        f" AND uri NOT IN {db.texts}"
        " AND NOT EXISTS (SELECT 1 FROM rounds WHERE rounds.round_id = models.round_id)"
        " ORDER BY version LIMIT ?",
        oldest,
        json.dumps(list(bases)),
        budget.rows,
    ).fetchall()
    uris = [uri for uri, size_bytes in stale if budget.take_if_left(size_bytes)]
    if uris:
        for table in ("strategy_arrays", "strategy_states", "models"):
            db.execute(f"DELETE FROM {table} WHERE uri IN {db.texts}", json.dumps(uris))


def oldest_kept_version(db: Sql, keep: int) -> int | None:
    """See :meth:`RoundStore.oldest_kept_version`."""
    row = db.execute(
        "SELECT version FROM models WHERE version IS NOT NULL"
        " ORDER BY version DESC LIMIT 1 OFFSET ?",
        keep - 1,
    ).fetchone()
    return cast(int, row[0]) if row else None


def start_digest(start: str) -> str:
    """:meth:`RoundStart.digest` of a start as it is kept, which is its canonical form."""
    return hashlib.sha256(start.encode()).hexdigest()


def _remember(db: Sql, round_ids: list[str]) -> None:
    """From here on only their ids are known."""
    rounds = db.execute(
        f"SELECT round_id, start, phase FROM rounds WHERE round_id IN {db.texts}",
        json.dumps(round_ids),
    ).fetchall()
    known = [(round_id, start_digest(start), phase) for round_id, start, phase in rounds]
    db.execute_each("INSERT INTO pruned_rounds VALUES (?, ?, ?)", known)


def _delete_records(db: Sql, round_ids: list[str], budget: PruneBudget) -> None:
    """Delete refusals and updates of these rounds, and the rounds that have none left."""
    listed = json.dumps(round_ids)
    deleted = db.execute(
        "DELETE FROM refusals WHERE id IN"
        f" (SELECT id FROM refusals WHERE round_id IN {db.texts} LIMIT ?)",
        listed,
        budget.rows,
    )
    budget.take(deleted.rowcount)
    updates = db.execute(
        "SELECT round_id, proplet_id, length(vector) FROM updates"
        f" WHERE round_id IN {db.texts} LIMIT ?",
        listed,
        budget.rows,
    ).fetchall()
    keys = [tuple(key) for *key, size_bytes in updates if budget.take_if_left(size_bytes)]
    db.execute_each("DELETE FROM updates WHERE round_id = ? AND proplet_id = ?", keys)
    db.execute(
        f"DELETE FROM rounds WHERE round_id IN {db.texts}"
        " AND NOT EXISTS (SELECT 1 FROM updates WHERE updates.round_id = rounds.round_id)"
        " AND NOT EXISTS (SELECT 1 FROM refusals WHERE refusals.round_id = rounds.round_id)",
        listed,
    )
