"""Where the arrays of an update lie in a file that is too large to be read whole.

The file is an update in CBOR (RFC 8949) as any other; only heads are read, and what is small.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from propeller_fl.errors import MessageError, TensorError
from propeller_fl.wire._labels import UPDATE_LABELS
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._tensors import MAX_RANK, Shapes, check_name

MAX_REST_BYTES: Final = 1024 * 1024
"""Of all but the arrays."""

MAX_TENSORS: Final = 65_536

_MAX_ITEMS: Final = 100_000  # in one member
_UNSIGNED, _TEXT, _BYTES, _ARRAY, _MAP, _TAG, _SIMPLE = 0, 3, 2, 4, 5, 6, 7
_TAG_ROW_MAJOR, _TAG_FLOAT32 = 40, 85
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}


@dataclass(frozen=True, slots=True)
class UpdateIndex:
    """``rest`` is the document with an empty ``update``. ``tensors`` are the arrays in the order of
    the document: where the little-endian float32 numbers lie, or a number that stands alone."""

    rest: bytes
    shapes: Shapes
    tensors: dict[str, range | float]


def index_update(file: BinaryIO, size_bytes: int) -> UpdateIndex:
    """Read an update of ``size_bytes``. Raises :class:`MessageError` for what is none, and for
    arrays that are not float32."""
    return _Reader(file, size_bytes).update()


class _Reader:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._size = size_bytes
        self._at = 0
        self._shapes: Shapes = {}
        self._tensors: dict[str, range | float] = {}

    def update(self) -> UpdateIndex:
        members = self._count(_MAP, "a map", 64)
        kept: list[bytes] = []
        seen = False
        for _ in range(members):
            start = self._at
            key = self._key()
            if key != "update":
                self._skip()
                kept.append(self._again(start))
            elif seen:
                raise _none("it has 'update' twice")
            else:
                seen = True
                self._arrays()
            if sum(map(len, kept)) > MAX_REST_BYTES:
                raise _none(f"more than {MAX_REST_BYTES} bytes of it are no arrays")
        if self._at != self._size:
            raise _none("something follows it")
        if not seen:
            raise MessageError(Reason.MISSING_FIELD, "update is missing", field="update")
        rest = _head(_MAP, members) + b"".join(kept) + _head(_TEXT, 6) + b"update" + _head(_MAP, 0)
        return UpdateIndex(rest, self._shapes, self._tensors)

    def _key(self) -> str:
        major, value = self._read_head()
        if major == _UNSIGNED:
            return UPDATE_LABELS.get(value, "")
        if major != _TEXT:
            raise _none("a member has neither name nor label")
        return self._text(value)

    def _arrays(self) -> None:
        for _ in range(self._count(_MAP, "update to be a map of tensors", MAX_TENSORS)):
            major, size = self._read_head()
            if major != _TEXT:
                raise _none("a tensor has no name")
            name = check_name(self._text(size), "update")
            if name in self._tensors:
                raise _none(f"it has the tensor {name[:40]!r} twice")
            self._shapes[name], self._tensors[name] = self._array(name)

    def _array(self, name: str) -> tuple[tuple[int, ...], range | float]:
        major, value = self._read_head()
        if major == _SIMPLE and value in _FLOATS:
            return (), self._number(name, value)
        shape: tuple[int, ...] | None = None
        if (major, value) == (_TAG, _TAG_ROW_MAJOR):
            if self._count(_ARRAY, "shape and numbers", 2) != 2:
                raise _bad(name, "has no shape")
            rank = self._count(_ARRAY, "a shape", MAX_RANK)
            shape = tuple(self._unsigned() for _ in range(rank))
            major, value = self._read_head()
        if (major, value) != (_TAG, _TAG_FLOAT32):
            raise _bad(name, "is not in float32, which an update of a model in parts is")
        size_bytes = self._count(_BYTES, "numbers", self._size)
        if shape is None:
            shape = (size_bytes // 4,)
        if size_bytes == 0 or math.prod(shape) * 4 != size_bytes or 0 in shape:
            raise _bad(name, f"has {size_bytes} bytes, and shape {list(shape)}")
        place = range(self._at, self._at + size_bytes)
        self._seek(place.stop)
        return shape, place

    def _number(self, name: str, kind: int) -> float:
        form = _FLOATS[kind]
        number = float(struct.unpack(form, self._bytes(struct.calcsize(form)))[0])
        try:
            struct.pack("<f", number)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise TensorError(Reason.NOT_FINITE, f"update.{name} is not finite", field=name)
        return number

    def _unsigned(self) -> int:
        major, value = self._read_head()
        if major != _UNSIGNED:
            raise _none("a dimension is no whole number")
        return value

    def _count(self, wanted: int, what: str, most: int) -> int:
        major, value = self._read_head()
        if major != wanted or value > most:
            raise _none(f"{what} was expected at byte {self._at}")
        return value

    def _skip(self) -> None:
        """Go past one item, whatever is in it."""
        left = 1
        for _ in range(_MAX_ITEMS):
            left -= 1
            major, value = self._read_head()
            if major in (_BYTES, _TEXT):
                self._seek(self._at + value)
            elif major == _SIMPLE and value in _FLOATS:
                self._seek(self._at + struct.calcsize(_FLOATS[value]))
            elif major in (_ARRAY, _MAP, _TAG):
                left += 1 if major == _TAG else value * (major - 3)
            if left == 0:
                return
            if left > _MAX_ITEMS:
                break
        raise _none("a member has too many items")

    def _read_head(self) -> tuple[int, int]:
        """The major type and the value; of a float, which kind of it."""
        first = self._bytes(1)[0]
        major, info = first >> 5, first & 31
        if (major == _SIMPLE and info in _FLOATS) or info < 24:
            return major, info
        if info > 27:
            raise _none("it has an item of unknown length")
        value = int.from_bytes(self._bytes(1 << (info - 24)), "big")
        return (major, value) if major != _SIMPLE else (major, 0)

    def _text(self, size: int) -> str:
        if size > 4 * 128:
            raise _none("a name is too long")
        try:
            return self._bytes(size).decode()
        except UnicodeDecodeError:
            raise _none("a name is not UTF-8") from None

    def _bytes(self, size: int) -> bytes:
        found = self._file.read(size) if self._at + size <= self._size else b""
        if len(found) != size:
            raise _none("it ends too early")
        self._at += size
        return found

    def _seek(self, at: int) -> None:
        if at > self._size:
            raise _none("it ends too early")
        self._at = at
        self._file.seek(at)

    def _again(self, start: int) -> bytes:
        """What has been read since ``start``."""
        size = self._at - start
        if size > MAX_REST_BYTES:
            raise _none(f"more than {MAX_REST_BYTES} bytes of it are no arrays")
        self._file.seek(start)
        return self._file.read(size)


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    return bytes([major << 5 | 25]) + value.to_bytes(2, "big")


def _none(why: str) -> MessageError:
    return MessageError(Reason.UNDECODABLE, f"the document cannot be read: {why}")


def _bad(name: str, what: str) -> TensorError:
    return TensorError(Reason.BAD_FIELD, f"update.{name} {what}", field=name[:80])
