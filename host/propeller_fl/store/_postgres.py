"""A PostgreSQL database, for a process that leads and others that would.

**Who leads** holds an advisory lock of the session, named by the table ``lead``. The lock and every
write are of one connection, so that whoever has lost the one cannot do the other: the server ends a
session, its transaction first, before anybody else has its lock. Beside it each leader counts up
the ``term`` in that table, and reads and locks its row at the beginning of each transaction: so who
leads no more is found out even behind a pooler, where the lock of a session is worth nothing.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

from propeller_fl import disk
from propeller_fl.errors import (
    ConfigError,
    DamagedStoreError,
    LostLeadError,
    StoreError,
)
from propeller_fl.store._postgres_address import PostgresAddress

try:
    import psycopg
    from psycopg import conninfo, pq
except ImportError as err:
    raise ConfigError(
        f"coordinator.database_url needs psycopg, and there is no {err.name}",
        hint='pip install "propeller-fl[postgres]"',
    ) from err

Migrations = Mapping[int, str]

_NO_MIGRATIONS: Final[Migrations] = MappingProxyType({})
_FIRST_VERSION: Final = 4  # there are no databases here of an earlier schema
_FETCHED_BYTES: Final = 8 * 1024 * 1024  # of large rows in memory
_SCHEMA_LOCK: Final = 0x50524F50  # whoever makes the tables
_ANSWER_S: Final = 10  # of a server that does not answer any more at all

# libpq's, where the URL does not say otherwise: either end notices within seconds that the other
# has gone.
_DEFAULTS: Final = {
    "application_name": "propeller-fl coordinator",
    "connect_timeout": "5",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "4",
    "tcp_user_timeout": str(_ANSWER_S * 1000),
    "target_session_attrs": "read-write",
    "client_encoding": "UTF8",
}
_LEAD: Final = """
CREATE TABLE lead (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1), schema_version BIGINT NOT NULL,
    term BIGINT NOT NULL, holder TEXT NOT NULL, since_s DOUBLE PRECISION NOT NULL,
    files_id TEXT NOT NULL);
INSERT INTO lead VALUES (1, {version}, 0, '', 0, '')
"""
# Texts are compared byte by byte, as SQLite does: the order of updates must not depend on where a
# database was made.
_IDENTITY: Final = "BIGINT GENERATED ALWAYS AS IDENTITY"
_IN_POSTGRES: Final = (
    (r"INTEGER PRIMARY KEY( AUTOINCREMENT)?\b", f"{_IDENTITY} PRIMARY KEY"),
    (r" WITHOUT ROWID", ""),
    (r"\barray BLOB\b", '"array" BLOB'),
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bREAL\b", "DOUBLE PRECISION"),
    (r"\bBLOB\b", "BYTEA"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
    # a row's number, which SQLite has anyway; and vectors as they are, to be read in pieces
    (r"(CREATE TABLE updates \(.*?\))(?=;|$)", rf"\1;ALTER TABLE updates ADD rowid {_IDENTITY};"
     "ALTER TABLE updates ALTER vector SET STORAGE EXTERNAL"),
)  # fmt: skip


class PostgresDatabase:
    """What :class:`Sql` describes, in a database of its own (or a schema, by ``search_path``).

    Tables are made if there are none; those of an older version are brought up by who takes the
    lead, so that a leader of the older program can end its work. Read-only until then.
    """

    texts: Final = "(SELECT json_array_elements_text(?::json))"

    def __init__(
        self,
        address: PostgresAddress,
        schema: str,
        version: int,
        migrations: Migrations = _NO_MIGRATIONS,
        *,
        create: bool = True,
    ) -> None:
        self._address = address
        self._version = version
        self._migrations = migrations
        self._term = 0  # ours, while we lead
        self._cursors = 0
        self._db = self._connect()
        try:
            self._prepare(schema if create else "")
        except BaseException:
            self._db.close()
            raise

    def take_lead(self, holder: str, files_id: str) -> bool:
        """See :meth:`RoundStore.take_lead`."""
        if self._term:
            return True
        self._check_files(files_id)
        if not self._one("SELECT pg_try_advisory_lock('lead'::regclass::oid::bigint)")[0]:
            return False
        self._check_files(files_id)  # as whoever led last has left it
        self.execute("SET default_transaction_read_only = off")
        self.execute("BEGIN")
        try:
            self._bring_up()
            [term] = self._one(
                "UPDATE lead SET term = term + 1, holder = ?, since_s = ?, files_id = ?"
                " RETURNING term",
                holder,
                time.time(),
                files_id,
            )
            self._commit()
        except BaseException:
            self._db.close()  # and the lock with it
            raise
        self._term = cast(int, term)
        return True

    def last_leader(self) -> tuple[str, float] | None:
        """See :meth:`RoundStore.last_leader`."""
        term, holder, since_s = self._one("SELECT term, holder, since_s FROM lead")
        return (holder, since_s) if term else None

    def _check_files(self, files_id: str) -> None:
        """Files that another has kept must be at hand here."""
        [kept] = self._one("SELECT files_id FROM lead")
        if kept not in ("", files_id):
            raise ConfigError(
                "coordinator.files_dir is not the directory in which other coordinators of "
                f"{self._address} keep the files of large updates",
                hint="mount that one here and name it, with all that is in it",
            )

    def execute(self, sql: str, *values: object) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run one statement with ``?`` parameters."""
        with self._errors():
            return self._db.execute(_marked(sql), _sendable(values), binary=True)

    def execute_each(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run one statement once for each of ``rows``, which is one way there and back."""
        with self._errors(), self._db.cursor() as cursor:
            cursor.executemany(_marked(sql), [_sendable(row) for row in rows])

    def rows(self, sql: str, *values: object) -> Iterator[tuple[object, ...]]:
        """The rows of a query, all of them in memory."""
        return iter(self.execute(sql, *values).fetchall())

    def large_rows(self, sql: str, *values: object, row_bytes: int) -> Iterator[tuple[object, ...]]:
        """The rows of a query, of which 8 MiB at a time are in memory, or one row."""
        self._cursors += 1
        in_transaction = self._db.info.transaction_status is not pq.TransactionStatus.IDLE
        with (
            self._errors(),
            self._db.cursor(
                f"rows_{self._cursors}", binary=True, withhold=not in_transaction
            ) as cursor,
        ):
            cursor.itersize = max(1, _FETCHED_BYTES // max(1, row_bytes))
            cursor.execute(_marked(sql), _sendable(values))
            yield from cursor

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and only while we lead."""
        self._begin()
        try:
            yield
            self._commit()
        except BaseException:
            self._undo()
            raise

    def tidy(self) -> None:
        """The server does so by itself."""

    def close(self) -> None:
        """Nothing may be called afterwards. Another may take the lead."""
        self._db.close()

    # --- connecting

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        try:
            given = conninfo.conninfo_to_dict(self._address.url)
            options: dict[str, Any] = {**_DEFAULTS, **given}
            password = self._address.password()
            if password is not None:
                options["password"] = password
            db = psycopg.connect(**options, autocommit=True)
        except psycopg.Error as err:
            raise StoreError(
                f"database {self._address}: {_line(err)}",
                hint="see that the server runs and lets this user in",
            ) from None  # a traceback would show the options
        return db

    def _prepare(self, schema: str) -> None:
        """Settings of the session, and tables if there are none; an empty schema makes none."""
        hung = f"{int(self._address.hung_after_s * 1000)}ms"
        for name, value in (
            ("idle_session_timeout", hung),
            ("idle_in_transaction_session_timeout", hung),
            ("tcp_keepalives_idle", "2"),
            ("tcp_keepalives_interval", "1"),
            ("tcp_keepalives_count", "4"),
            ("tcp_user_timeout", f"{_ANSWER_S}s"),
            ("client_connection_check_interval", "2s"),
        ):
            self.execute("SELECT set_config(?, ?, false)", name, value)
        [encoding, durable] = self._one(
            "SELECT current_setting('server_encoding'), current_setting('synchronous_commit')"
        )
        if encoding != "UTF8":
            raise StoreError(
                f"database {self._address} is kept as {encoding}",
                hint="CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            )
        if durable in ("off", "local"):  # what a commit has said must be so after a crash
            self.execute("SET synchronous_commit = on")
        if not self._has_tables():
            if not schema:
                raise StoreError(
                    f"database {self._address} has no rounds yet",
                    hint="a coordinator that has it as coordinator.database_url makes their tables",
                )
            self.execute("BEGIN")
            try:
                self.execute("SELECT pg_advisory_xact_lock(?)", _SCHEMA_LOCK)
                if not self._has_tables():
                    self._run(_in_postgres(schema))
                    self._run(_LEAD.format(version=self._version))
                self._commit()
            except BaseException:
                self._undo()
                raise
        self._found_version()
        self.execute("SET default_transaction_read_only = on")

    def _has_tables(self) -> bool:
        return bool(self._one("SELECT to_regclass('lead') IS NOT NULL")[0])

    def _found_version(self) -> int:
        found = cast(int, self._one("SELECT schema_version FROM lead")[0])
        if found > self._version:
            raise StoreError(
                f"database {self._address} has schema {found}, this program knows {self._version}",
                hint="use the program that wrote it, or another database",
            )
        return found

    def _bring_up(self) -> None:
        found = self._found_version()
        for version in range(max(found, _FIRST_VERSION), self._version):
            self._run(_in_postgres(self._migrations[version]))
        if found != self._version:
            self.execute("UPDATE lead SET schema_version = ?", self._version)

    def _one(self, sql: str, *values: object) -> tuple[Any, ...]:
        """The one row that there is."""
        row = self.execute(sql, *values).fetchone()
        assert row is not None, sql
        return row

    def _run(self, script: str) -> None:
        for statement in script.split(";"):
            if statement.strip():
                self.execute(statement)

    # --- transactions

    def _begin(self) -> None:
        """One way there and back. Who takes the lead meanwhile waits for our end."""
        if not self._term:
            self._lose("we have not taken the lead")
        with self._errors():
            cursor = self._db.execute("BEGIN; SELECT term FROM lead FOR SHARE")
            cursor.nextset()
            row = cursor.fetchone()
        if row != (self._term,):
            self._undo()
            self._lose(f"the term is {row and row[0]}, and ours was {self._term}")

    def _commit(self) -> None:
        done = self.execute("COMMIT").statusmessage
        if done != "COMMIT":  # a statement had failed, and somebody went on
            raise StoreError(f"database {self._address}: the transaction was not committed")

    def _undo(self) -> None:
        if self._db.info.transaction_status is not pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                self._db.execute("ROLLBACK")

    # --- what it says

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as err:
            if self._db.closed and self._term:
                self._lose(_line(err), err)
            code = err.sqlstate or ""
            if code in ("XX001", "XX002"):
                raise DamagedStoreError(
                    f"database {self._address} is damaged: {_line(err)}",
                    hint="restore it from a backup",
                ) from err
            raise StoreError(
                f"database {self._address}: {_line(err)}", hint=_HINTS.get(code, "")
            ) from err

    def _lose(self, why: str, err: Exception | None = None) -> NoReturn:
        raise LostLeadError(f"no leader of {self._address}: {why}") from err


def _in_postgres(script: str) -> str:
    """A script for SQLite as PostgreSQL says it."""
    for pattern, replacement in _IN_POSTGRES:
        script = re.sub(pattern, replacement, script, flags=re.DOTALL)
    return script


@functools.cache
def _marked(sql: str) -> bytes:
    """A statement with the marks of psycopg for its values."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _sendable(values: tuple[object, ...]) -> tuple[object, ...]:
    """PostgreSQL has no room for a NUL in a text, which others may have put into theirs."""
    return tuple(
        value.replace("\0", "\\x00") if isinstance(value, str) and "\0" in value else value
        for value in values
    )


def _line(err: Exception) -> str:
    """What it says, on one line."""
    return " ".join(str(err).split())


_HINTS: Final = {
    "53100": disk.FULL,
    "53300": "raise its max_connections",
    "25006": "it takes no writes: is it a replica?",
    "42501": "let this user own the database",
}
