"""One SQLite file, opened the way every store here wants it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from propeller_fl.errors import StoreError


class Database:
    """A connection in WAL mode, synced at every commit, its schema created or checked.

    ``schema`` is a script of ``CREATE TABLE`` statements, ``version`` its number, kept in the
    file: a file of another version is refused rather than guessed at. Raises
    :class:`StoreError` for whatever SQLite or the disk has to say.
    """

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self.path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
        try:
            with self._errors():
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
            self._prepare(schema, version)
        except BaseException:
            self._db.close()
            raise

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement with ``?`` parameters."""
        with self._errors():
            return self._db.execute(sql, values)

    def rows(self, sql: str, *values: object) -> Iterator[tuple[object, ...]]:
        """The rows of a query, one at a time."""
        with self._errors():
            yield from self._db.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: committed and synced at the end, rolled back by any exception."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.rollback()
            raise

    def close(self) -> None:
        """Nothing may be called afterwards."""
        self._db.close()

    def _prepare(self, schema: str, version: int) -> None:
        [found] = self.execute("PRAGMA user_version").fetchone()
        if found == version:
            return
        if found != 0:
            raise StoreError(
                f"{self.path} has schema {found}, this program knows {version}",
                hint="use the program that wrote it, or another data directory",
            )
        with self._errors():
            self._db.executescript(f"BEGIN; {schema}; PRAGMA user_version={version}; COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as err:
            raise StoreError(f"database {self.path}: {err}", hint=_hint(err)) from err
        except OSError as err:
            raise StoreError(f"database {self.path}: {err.strerror}") from err


def _hint(err: sqlite3.DatabaseError) -> str:
    match err.sqlite_errorname if hasattr(err, "sqlite_errorname") else "":
        case "SQLITE_FULL":
            return "the disk is full: free some space, nothing was lost"
        case "SQLITE_BUSY":
            return "another process holds it: is the same service running twice?"
        case "SQLITE_READONLY" | "SQLITE_CANTOPEN":
            return "check the permissions of the file and of its directory"
        case "SQLITE_CORRUPT" | "SQLITE_NOTADB":
            return "restore it from a backup, or move it away to start afresh"
    return ""
