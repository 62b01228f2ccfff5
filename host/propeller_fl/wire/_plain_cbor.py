"""A quick reader of the CBOR that is usual here; whatever else there is, cbor2 reads, or refuses.

It knows maps with text keys, lists, numbers, texts and the typed arrays of RFC 8746, all of
definite length, and refuses nothing: it gives up, and the document is read again from its start.
What it does read comes out as from cbor2 (``tests/wire/test_plain_cbor.py``). The gain is that an
array is copied once, out of the document into memory of its own, not through a stream's buffers.

The place in the document goes from call to call as a local variable: an update is a few dozen
items, and attributes would cost more than the reading.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_MAX_DEPTH: Final = 8  # a shaped array in a map in a document is 3
_SIMPLE: Final = {20: False, 21: True, 22: None}
_ROW_MAJOR: Final = 40
_FLOATS: Final = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}

_Arrays = Mapping[int, np.dtype[Any]]


class NotPlain(Exception):
    """The document has something that is left to cbor2."""


def read_plain(data: bytes, typed_arrays: _Arrays) -> dict[str, Any]:
    """The map that ``data`` is; ``typed_arrays`` has the element type by tag.

    Raises :class:`NotPlain` for anything out of the ordinary, malformed or not.
    """
    try:
        value, at = _item(data, 0, _MAX_DEPTH, typed_arrays)
    except (IndexError, ValueError, struct.error):  # cut short, not UTF-8, of no such shape
        raise NotPlain from None
    if type(value) is not dict or at != len(data):
        raise NotPlain
    return value


def _item(data: bytes, at: int, depth: int, arrays: _Arrays) -> tuple[Any, int]:
    """The item at ``at``, and where the next begins: past the end, if this one is cut short. What
    is read there fails, and ``read_plain`` sees it if nothing is."""
    first = data[at]
    at += 1
    major, argument = first >> 5, first & 31
    if major == 7:
        return _simple(data, at, argument)
    if argument >= 24:
        argument, at = _argument(data, at, argument)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major == 3:
        stop = at + argument
        return data[at:stop].decode(), stop
    if not depth:
        raise NotPlain
    if major == 6:
        return _tagged(data, at, argument, depth - 1, arrays)
    if argument > len(data) - at:  # an element has a byte at least
        raise NotPlain
    if major == 5:
        return _map(data, at, argument, depth - 1, arrays)
    if major == 4:
        items = []
        for _ in range(argument):
            value, at = _item(data, at, depth - 1, arrays)
            items.append(value)
        return items, at
    raise NotPlain  # a byte string that no tag explains


def _map(data: bytes, at: int, count: int, depth: int, arrays: _Arrays) -> tuple[Any, int]:
    found = {}
    for _ in range(count):
        size = data[at] - 0x60
        if not 0 <= size < 32:  # not text
            raise NotPlain
        at += 1
        if size >= 24:
            size, at = _argument(data, at, size)
        stop = at + size
        key = data[at:stop].decode()
        found[key], at = _item(data, stop, depth, arrays)
    return found, at


def _argument(data: bytes, at: int, low: int) -> tuple[int, int]:
    """What follows the first byte of an item whose low bits say that something does."""
    if low == 24:
        return data[at], at + 1
    if low > 27:
        raise NotPlain
    stop = at + (1 << (low - 24))
    return int.from_bytes(data[at:stop]), stop


def _simple(data: bytes, at: int, low: int) -> tuple[Any, int]:
    form = _FLOATS.get(low)
    if form is not None:
        return form.unpack_from(data, at)[0], at + form.size
    if low not in _SIMPLE:
        raise NotPlain
    return _SIMPLE[low], at


def _tagged(data: bytes, at: int, tag: int, depth: int, arrays: _Arrays) -> tuple[Any, int]:
    if tag == _ROW_MAJOR:
        value, at = _item(data, at, depth, arrays)
        if type(value) is not list or len(value) != 2 or type(value[1]) is not np.ndarray:
            raise NotPlain
        sizes, flat = value
        if type(sizes) is not list or any(type(size) is not int or size < 1 for size in sizes):
            raise NotPlain
        if flat.ndim != 1 or not 1 <= len(sizes) <= _MAX_DEPTH:
            raise NotPlain
        return flat.reshape(sizes), at
    dtype = arrays.get(tag)
    size = data[at] - 0x40
    if dtype is None or not 0 <= size < 32:  # not bytes
        raise NotPlain
    at += 1
    if size >= 24:
        size, at = _argument(data, at, size)
    stop = at + size
    return np.frombuffer(data[at:stop], dtype), stop
