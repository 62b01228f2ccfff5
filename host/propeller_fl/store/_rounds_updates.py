"""The accepted updates of a round, read again and again in the order of proplet ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import StoreError
from propeller_fl.store._database import Database, store_errors
from propeller_fl.store._sql import Sql

_BLOCK_BYTES: Final = 8 * 1024 * 1024
_MAX_OPEN: Final = 4096  # vectors that are open at once; each takes some KiB
_NUMBER_BYTES: Final = 4


class KeptUpdates:
    """What :class:`propeller_fl.learn.Updates` describes. ``size`` is that of every vector.

    Its readers raise :class:`StoreError`, and :class:`ValueError` for a vector of another size.
    """

    def __init__(self, db: Sql, round_id: str, size: int) -> None:
        self._db = db
        self._round_id = round_id
        self._size = size
        self.size = size
        rows = db.rows(
            "SELECT rowid, num_samples FROM updates WHERE round_id = ? ORDER BY proplet_id",
            round_id,
        )
        found = [(cast(int, id_), cast(int, samples)) for id_, samples in rows]
        self._ids = [id_ for id_, _ in found]
        self.weights = tuple(samples for _, samples in found)

    def vectors(self) -> Iterator[NDArray[np.float32]]:
        """One at a time in memory; read-only."""
        for (vector,) in self._db.large_rows(
            "SELECT vector FROM updates WHERE round_id = ? ORDER BY proplet_id",
            self._round_id,
            row_bytes=self._size * _NUMBER_BYTES,
        ):
            self._check(len(cast(bytes, vector)))
            yield np.frombuffer(cast(bytes, vector), "<f4")

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """[count, columns] at a time, of 8 MiB; each vector is read through once, whatever its
        size, unless there are more than 4,096, or a database that is away gives each its piece."""
        count = len(self._ids)
        width = max(1, _BLOCK_BYTES // (_NUMBER_BYTES * max(1, count)))
        with contextlib.ExitStack() as stack:
            if isinstance(self._db, Database) and count <= _MAX_OPEN:
                columns_of = self._open_vectors(self._db, stack)
            else:
                columns_of = self._rows_in_pieces
            for start in range(0, self._size, width):
                columns = slice(start, min(start + width, self._size))
                block = np.empty((count, columns.stop - columns.start), np.float32)
                found = 0
                for row, piece in enumerate(columns_of(columns)):
                    block[row] = np.frombuffer(piece, "<f4")
                    found = row + 1
                if found != count:
                    raise StoreError(f"{found} updates of {self._round_id} are left of {count}")
                yield columns, block

    def _open_vectors(self, db: Database, stack: contextlib.ExitStack) -> Any:
        """SQLite remembers of an open value which pages it is on, so no page is read twice."""
        blobs = [db.blob("updates", "vector", id_) for id_ in self._ids]
        for blob in blobs:
            stack.callback(blob.close)
            self._check(len(blob))

        def pieces(columns: slice) -> Iterator[bytes]:
            for blob in blobs:
                with store_errors(db.path):
                    blob.seek(columns.start * _NUMBER_BYTES)
                    yield blob.read((columns.stop - columns.start) * _NUMBER_BYTES)

        return pieces

    def _rows_in_pieces(self, columns: slice) -> Iterator[bytes]:
        """Read anew for each block: of so many their models can only be small, and PostgreSQL
        keeps vectors so that it finds a piece of one at once."""
        for size_bytes, piece in self._db.rows(
            "SELECT length(vector), substr(vector, ?, ?) FROM updates WHERE round_id = ?"
            " ORDER BY proplet_id",
            columns.start * _NUMBER_BYTES + 1,
            (columns.stop - columns.start) * _NUMBER_BYTES,
            self._round_id,
        ):
            self._check(cast(int, size_bytes))
            yield cast(bytes, piece)

    def _check(self, size_bytes: int) -> None:
        if size_bytes != self._size * _NUMBER_BYTES:
            raise ValueError(
                f"a vector of {size_bytes} bytes is kept, not of {self._size * _NUMBER_BYTES}"
            )
