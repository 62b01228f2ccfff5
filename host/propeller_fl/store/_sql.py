"""What a store of rows asks of its database, whichever that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Result(Protocol):
    """Of one statement."""

    @property
    def rowcount(self) -> int:
        """Of those it has changed."""

    def fetchone(self) -> Any:
        """The next row, or ``None``."""

    def fetchall(self) -> list[Any]:
        """The rows that are left."""


class Sql(Protocol):
    """One connection, on which every statement but a transaction's is durable when it returns.

    Statements have ``?`` for their values, and are such as SQLite and PostgreSQL understand alike.
    Every method raises :class:`StoreError` for what the database says, and
    :class:`DamagedStoreError` where it holds what nobody wrote; one that has to be led,
    :class:`LostLeadError` when it may be another's.
    """

    @property
    def texts(self) -> str:
        """The rows of one value that is a list of texts in JSON."""

    def take_lead(self, holder: str, files_id: str) -> bool:
        """See :meth:`RoundStore.take_lead`."""

    def last_leader(self) -> tuple[str, float] | None:
        """See :meth:`RoundStore.last_leader`."""

    def execute(self, sql: str, *values: object) -> Result:
        """Run one statement."""

    def execute_each(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run one statement once for each of ``rows``."""

    def rows(self, sql: str, *values: object) -> Iterator[tuple[object, ...]]:
        """The rows of a query."""

    def large_rows(self, sql: str, *values: object, row_bytes: int) -> Iterator[tuple[object, ...]]:
        """The same, of about ``row_bytes`` each, and a few of them in memory."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: durable at the end, rolled back by any exception."""

    def tidy(self) -> None:
        """Do now, while there is time, what commits would have to do once."""

    def close(self) -> None:
        """Nothing may be called afterwards."""
