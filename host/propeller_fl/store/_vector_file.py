"""Models and updates as files that are written front to back and read by columns."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import StoreError
from propeller_fl.store._tensor_file import METADATA, TensorFile, metadata_of
from propeller_fl.wire import Shapes

_NUMBER_BYTES: Final = 4
_ALIGNMENT: Final = 8


def write_vector(path: Path, shapes: Shapes, blocks: Iterable[bytes | NDArray[np.float32]]) -> None:
    """A safetensors file of float32 tensors, one after the other in the order of ``shapes``,
    durable when this returns. ``blocks`` are their numbers, little-endian, in pieces of any size.

    The same numbers give the same bytes. Raises :class:`OSError`, and :class:`ValueError` when the
    numbers are more or fewer than ``shapes`` say.
    """
    entries: dict[str, Any] = {"__metadata__": {METADATA: metadata_of(shapes, None)}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _NUMBER_BYTES * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for block in blocks:
            file.write(block if isinstance(block, bytes) else block.astype("<f4").tobytes())
        if file.tell() != 8 + len(header) + end:
            raise ValueError(f"{file.tell() - 8 - len(header)} bytes of numbers, not {end}")
        file.flush()
        os.fsync(file.fileno())


class VectorFile:
    """The tensors of such a file, in whatever order it has them, as one vector in the order of
    ``shapes``. A context manager. Raises :class:`StoreError` when it cannot be read, and
    :class:`MessageError` when it is another file."""

    def __init__(self, path: Path, shapes: Shapes) -> None:
        self._path = path
        try:
            header = TensorFile.read(path)
            self._file = path.open("rb", buffering=0)
        except OSError as err:
            raise StoreError(f"{path} cannot be read: {err.strerror}") from err
        self._places: list[tuple[int, range]] = []  # first column, and bytes in the file
        start = 0
        for name, shape in shapes.items():
            self._places.append((start, header.tensors[name].place))
            start += math.prod(shape)
        self.size = start

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Some columns, which may be written to."""
        found = np.empty(stop - start, "<f4")
        view = memoryview(cast(Any, found)).cast("B")
        for first, place in self._places:
            low = max(start, first)
            high = min(stop, first + len(place) // _NUMBER_BYTES)
            if low < high:
                piece = view[(low - start) * _NUMBER_BYTES : (high - start) * _NUMBER_BYTES]
                self._read_into(piece, place.start + (low - first) * _NUMBER_BYTES)
        return found

    def _read_into(self, view: memoryview, at: int) -> None:
        try:
            while view:
                count = os.preadv(self._file.fileno(), [view], at)
                if count == 0:
                    raise StoreError(f"{self._path} has become shorter")
                view, at = view[count:], at + count
        except OSError as err:
            raise StoreError(f"{self._path} cannot be read: {err.strerror}") from err

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
