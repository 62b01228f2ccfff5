"""One SQLite file, opened the way every store here wants it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from propeller_fl import disk
from propeller_fl.errors import DamagedStoreError, MessageError, PropellerError, StoreError

_NO_MIGRATIONS: Final[Mapping[int, str]] = MappingProxyType({})
_PAGE_BYTES: Final = 4096
_CACHE_BYTES: Final = 2 * 1024 * 1024
_LOG_BYTES: Final = 4 * 1024 * 1024
_BUSY_S: Final = 2.0  # who holds the lock for longer is reported, and tried again by the caller
_CHECKED_BYTES: Final = 64 * 1024 * 1024  # up to here all pages are looked at when it is opened
_RESTORE: Final = "restore it from a backup, or move it away to start afresh"


class Database:
    """A connection in WAL mode, synced at every commit, its schema created, brought up or checked.

    ``schema`` is a script of ``CREATE …`` statements, ``version`` its number, kept in the file.
    ``migrations`` has, by the version it starts from, the script that leads to the next one; a
    file of any other version is refused rather than guessed at. Raises :class:`StoreError` for
    whatever SQLite or the disk has to say, and :class:`DamagedStoreError` when the file is not
    what was written: one of up to 64 MiB is looked through when it is opened, a larger one when
    its pages are read. A damaged file is left as it is.

    ``source`` is a file, or a connection that the caller has opened with ``isolation_level=None``.
    ``page_bytes`` is for a file that is made; one that is there keeps its own. ``cache_bytes`` of
    pages are kept in memory. A commit that finds ``log_bytes`` in the log moves them into the file,
    and takes so much longer.
    """

    texts: Final = "(SELECT value FROM json_each(?))"

    def __init__(
        self,
        source: Path | sqlite3.Connection,
        schema: str,
        version: int,
        migrations: Mapping[int, str] = _NO_MIGRATIONS,
        *,
        page_bytes: int = _PAGE_BYTES,
        cache_bytes: int = _CACHE_BYTES,
        log_bytes: int = _LOG_BYTES,
    ) -> None:
        self.path = source if isinstance(source, Path) else _path_of(source)
        if isinstance(source, Path):
            source = self._open(source, schema, version, page_bytes)
        self._db = source
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self.execute(f"PRAGMA {pragma}")
            self.execute(f"PRAGMA cache_size=-{cache_bytes // 1024}")
            [page_bytes] = self.execute("PRAGMA page_size").fetchone()
            self.execute(f"PRAGMA wal_autocheckpoint={log_bytes // page_bytes}")
            if self._version() != version:
                self._prepare(schema, version, migrations)
        except BaseException:
            self._db.close()
            raise

    def take_lead(self, holder: str, files_id: str) -> bool:
        """The file is the caller's alone."""
        return True

    def last_leader(self) -> None:
        """A file is not led."""

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement with ``?`` parameters."""
        try:  # and not ``store_errors``, which takes as long as a small statement
            return self._db.execute(sql, values)
        except (sqlite3.DatabaseError, OSError) as err:
            raise _ours(err, self.path) from err

    def execute_each(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run one statement once for each of ``rows``."""
        with store_errors(self.path):
            self._db.executemany(sql, rows)

    def rows(self, sql: str, *values: object) -> Iterator[tuple[object, ...]]:
        """The rows of a query, one at a time."""
        with store_errors(self.path):
            yield from self._db.execute(sql, values)

    def large_rows(self, sql: str, *values: object, row_bytes: int) -> Iterator[tuple[object, ...]]:
        """The same, as each is read from the file when it is asked for."""
        return self.rows(sql, *values)

    def blob(self, table: str, column: str, row_id: int) -> sqlite3.Blob:
        """A value to be read piece by piece, within :func:`store_errors`; the caller closes it."""
        with store_errors(self.path):
            return self._db.blobopen(table, column, row_id, readonly=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: committed and synced at the end, rolled back by any exception."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                with store_errors(self.path):
                    self._db.rollback()
            raise

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Rows were well-formed when they were written."""
        try:
            yield
        except (MessageError, ValueError) as err:
            raise DamagedStoreError(
                f"database {self.path} is damaged: a row cannot be read: {err}",
                hint=_RESTORE,
            ) from err

    def tidy(self) -> None:
        """Move into the file what commits have left in its log. Nobody is waited for: what a reader
        still needs is left to the next time."""
        self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Nothing may be called afterwards."""
        self._db.close()

    def _open(self, path: Path, schema: str, version: int, page_bytes: int) -> sqlite3.Connection:
        with store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _create(path, schema, version, page_bytes)
            if path.stat().st_size <= _CHECKED_BYTES:
                # not through the connection we keep: closed on damage, it might still write
                with contextlib.closing(open_to_read(path)) as db:
                    _look_through(db, path, "quick_check(1)")
                    if db.execute("PRAGMA user_version").fetchone() == (0,):
                        raise _damaged(path, "it has no tables of this program")
            return sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
            )

    def _version(self) -> int:
        [found] = self.execute("PRAGMA user_version").fetchone()
        return int(found)

    def _prepare(self, schema: str, version: int, migrations: Mapping[int, str]) -> None:
        """Create the schema or bring it up, whole or not at all, whoever else is about it."""
        if self.execute("PRAGMA query_only").fetchone()[0]:
            raise self._of_another_program(self._version(), version)
        with self.transaction():
            found = self._version()
            if found == 0:
                self._run(schema)
                found = version
            while found in migrations and found < version:
                self._run(migrations[found])
                found += 1
            if found != version:
                raise self._of_another_program(found, version)
            self.execute(f"PRAGMA user_version={version}")

    def _of_another_program(self, found: int, version: int) -> StoreError:
        hint = "use the program that wrote it, or another data directory"
        if found < version:
            hint = "its service brings it up when it starts"
        return StoreError(
            f"{self.path} has schema {found}, this program knows {version}", hint=hint
        )

    def _run(self, script: str) -> None:
        for statement in script.split(";"):
            self.execute(statement)


def unicode(text: str) -> str:
    """A sender's words as the database can hold them: JSON can spell half a character."""
    return text.encode(errors="backslashreplace").decode()


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, while another process may write or none can: on a disk
    that is mounted read-only, say. Raises as :class:`Database` does."""
    with store_errors(path):
        if path.stat().st_size == 0:
            raise _damaged(path, "it is empty")
        uri = f"{path.absolute().as_uri()}?mode=ro"
        db = _connect_to_read(uri)
        try:
            db.execute("PRAGMA user_version")
        except sqlite3.OperationalError as err:
            db.close()
            if _code(err) != sqlite3.SQLITE_CANTOPEN or _has_log(path):
                raise
            # No index of a log can be made there, and there is no log: the file is all there is.
            db = _connect_to_read(f"{uri}&immutable=1")
        except BaseException:
            db.close()
            raise
        return db


def check_database(path: Path) -> dict[str, int]:
    """Look at every page, index and reference without changing anything; rows by table.

    Raises :class:`DamagedStoreError`, or :class:`StoreError` when it cannot be read.
    """
    with store_errors(path), contextlib.closing(open_to_read(path)) as db:
        _look_through(db, path, "integrity_check(1)")
        dangling = db.execute("PRAGMA foreign_key_check").fetchone()
        if dangling:
            raise _damaged(path, f"a row of {dangling[0]} belongs to none of {dangling[2]}")
        tables = db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return {
            name: db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in tables.fetchall()
        }


def _create(path: Path, schema: str, version: int, page_bytes: int) -> None:
    """The file is there with its tables or not at all, so that an empty one is a damaged one."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
            db.execute(f"PRAGMA page_size={page_bytes}")
            db.executescript(f"BEGIN; {schema}; PRAGMA user_version={version}; COMMIT")
        unfinished.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the next one removes it
            unfinished.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect_to_read(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
    db.execute("PRAGMA query_only=ON")
    return db


def _look_through(db: sqlite3.Connection, path: Path, how: str) -> None:
    [verdict] = db.execute(f"PRAGMA {how}").fetchone()
    if verdict != "ok":
        lines = [line for line in str(verdict).splitlines() if not line.startswith("***")]
        raise _damaged(path, " ".join(lines))


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _path_of(db: sqlite3.Connection) -> Path:
    [file] = [file for _, name, file in db.execute("PRAGMA database_list") if name == "main"]
    return Path(file or ":memory:")


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """What SQLite and the disk say, as errors of ours that name the file."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as err:
        raise _ours(err, path) from err


def _ours(err: sqlite3.DatabaseError | OSError, path: Path) -> PropellerError:
    if isinstance(err, OSError):
        return StoreError(f"database {path}: {err.strerror}", hint=disk.remedy(err, "data_dir"))
    if _code(err) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(err))
    return StoreError(f"database {path}: {err}", hint=_HINTS.get(_code(err), ""))


def _damaged(path: Path, how: str) -> DamagedStoreError:
    return DamagedStoreError(f"database {path} is damaged: {how}", hint=_RESTORE)


def _code(err: sqlite3.DatabaseError) -> int:
    """SQLite's code without its subdivisions; 0 for what Python itself has found."""
    return int(getattr(err, "sqlite_errorcode", 0)) & 0xFF


_HINTS: Final = {
    sqlite3.SQLITE_FULL: disk.FULL,
    sqlite3.SQLITE_BUSY: "another process holds it: is the same service running twice?",
    sqlite3.SQLITE_READONLY: "check who owns the file, and if its disk is mounted read-only",
    sqlite3.SQLITE_CANTOPEN: "check who owns its directory, and the limit on open files",
    sqlite3.SQLITE_IOERR: "the disk did not take or give it: look into the kernel's log",
}
