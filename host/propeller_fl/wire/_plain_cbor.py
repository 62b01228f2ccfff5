"""A quick reader of the CBOR that is usual here; whatever else there is, cbor2 reads, or refuses.

It knows maps with text keys, lists, numbers, texts and the typed arrays of RFC 8746, all of
definite length, and refuses nothing: it gives up, and the document is read again from its start.
What it does read comes out as from cbor2 (``tests/wire/test_plain_cbor.py``). The gain is that an
array is copied once, out of the document into memory of its own, not through a stream's buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_MAX_DEPTH: Final = 8  # a shaped array in a map in a document is 3
_SIMPLE: Final = {20: False, 21: True, 22: None}
_SHORT_TEXT: Final = 0x60  # and its length, up to 23
_ROW_MAJOR: Final = 40
_FLOATS: Final = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}


class NotPlain(Exception):
    """The document has something that is left to cbor2."""


def read_plain(data: bytes, typed_arrays: Mapping[int, np.dtype[Any]]) -> dict[str, Any]:
    """The map that ``data`` is; ``typed_arrays`` has the element type by tag.

    Raises :class:`NotPlain` for anything out of the ordinary, malformed or not.
    """
    reader = _Reader(data, typed_arrays)
    try:
        value = reader.item(_MAX_DEPTH)
    except (IndexError, ValueError, struct.error):  # cut short, not UTF-8, of no such shape
        raise NotPlain from None
    if type(value) is not dict or reader.at != len(data):
        raise NotPlain
    return value


class _Reader:
    def __init__(self, data: bytes, typed_arrays: Mapping[int, np.dtype[Any]]) -> None:
        self.data = data
        self.at = 0
        self._typed_arrays = typed_arrays

    def item(self, depth: int) -> Any:
        first = self.data[self.at]
        self.at += 1
        major, low = first >> 5, first & 31
        if major == 7:
            return self._simple(low)
        argument = low if low < 24 else self._argument(low)
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 3:
            return self._bytes(argument).decode()
        if not depth:
            raise NotPlain
        if major == 4:
            return [self.item(depth - 1) for _ in range(self._counted(argument))]
        if major == 5:
            found = {}
            for _ in range(self._counted(argument)):
                key = self._key()
                found[key] = self.item(depth - 1)
            return found
        if major == 6:
            return self._tagged(argument, depth - 1)
        raise NotPlain  # a byte string that no tag explains

    def _key(self) -> str:
        size = self.data[self.at] - _SHORT_TEXT
        if 0 <= size < 24:
            self.at += 1
            return self._bytes(size).decode()
        key = self.item(0)
        if type(key) is not str:
            raise NotPlain
        return key

    def _argument(self, low: int) -> int:
        if low > 27:
            raise NotPlain
        return int.from_bytes(self._bytes(1 << (low - 24)))

    def _counted(self, count: int) -> int:
        if count > len(self.data) - self.at:  # an element has a byte at least
            raise NotPlain
        return count

    def _bytes(self, size: int) -> bytes:
        found = self.data[self.at : self.at + size]
        if len(found) != size:
            raise NotPlain
        self.at += size
        return found

    def _simple(self, low: int) -> Any:
        if low in _SIMPLE:
            return _SIMPLE[low]
        if low not in _FLOATS:
            raise NotPlain
        form = _FLOATS[low]
        [value] = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def _tagged(self, tag: int, depth: int) -> Any:
        if tag == _ROW_MAJOR:
            value = self.item(depth)
            if type(value) is not list or len(value) != 2 or type(value[1]) is not np.ndarray:
                raise NotPlain
            sizes, flat = value
            if type(sizes) is not list or any(type(size) is not int or size < 1 for size in sizes):
                raise NotPlain
            if flat.ndim != 1 or not 1 <= len(sizes) <= _MAX_DEPTH:
                raise NotPlain
            return flat.reshape(sizes)
        dtype = self._typed_arrays.get(tag)
        first = self.data[self.at]
        if dtype is None or first >> 5 != 2:
            raise NotPlain
        self.at += 1
        low = first & 31
        size = low if low < 24 else self._argument(low)
        return np.frombuffer(self._bytes(size), dtype)
