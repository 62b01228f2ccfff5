"""Documents: bytes ↔ Python values, in JSON (RFC 8259) or CBOR (RFC 8949).

The first byte tells which.

In CBOR, arrays of numbers are RFC 8746 typed arrays: float32 little-endian (tag 85) and uint8
(tag 64) are what we write; float16, float64, (u)int8…32 and their row-major shape (tag 40) are read
as well. No other tag is: dates, patterns and numbers without bounds have no place in a message, and
references to other values (tags 28 and 29) let a few bytes stand for gigabytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import cbor2
import numpy as np

from propeller_fl.errors import MessageError
from propeller_fl.wire._labels import with_names
from propeller_fl.wire._plain_cbor import NotPlain, read_plain
from propeller_fl.wire._reasons import Reason

MAX_DEPTH: Final = 64
"""Deepest nesting that is read; a tensor's rank counts."""

_TYPED_ARRAYS: Final[dict[int, np.dtype[Any]]] = {
    64: np.dtype("u1"),
    65: np.dtype(">u2"),
    66: np.dtype(">u4"),
    68: np.dtype("u1"),
    69: np.dtype("<u2"),
    70: np.dtype("<u4"),
    72: np.dtype("i1"),
    73: np.dtype(">i2"),
    74: np.dtype(">i4"),
    77: np.dtype("<i2"),
    78: np.dtype("<i4"),
    80: np.dtype(">f2"),
    81: np.dtype(">f4"),
    82: np.dtype(">f8"),
    84: np.dtype("<f2"),
    85: np.dtype("<f4"),
    86: np.dtype("<f8"),
}
_ROW_MAJOR: Final = 40
_UINT8: Final = 64
_FLOAT32_LE: Final = 85
_MAX_ELEMENTS: Final = 1 << 31
_READ_BY_CBOR2: Final = (
    *(0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100),
    *(256, 258, 260, 261, 1004, 43000, 55799),
)
_NUMBERS: Final = frozenset((int, float))
_PLAIN: Final = frozenset((str, int, float, bool, type(None), np.ndarray))


class Format(StrEnum):
    """How a document is written."""

    JSON = "json"
    CBOR = "cbor"


def format_of(data: bytes) -> Format:
    """Tell the format by the first byte: a CBOR map starts with 0xa0 to 0xbf, all else is JSON."""
    return Format.CBOR if data and 0xA0 <= data[0] <= 0xBF else Format.JSON


def decode_document(data: bytes, labels: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Decode one map with text keys; typed arrays come out as ``ndarray`` of their own dtype.

    With ``labels``, the outermost map of a CBOR document may have those in the place of names.
    Raises :class:`MessageError` (``undecodable``) for anything else, however malformed.
    """
    value = _decode_cbor(data, labels) if format_of(data) is Format.CBOR else _decode_json(data)
    if not isinstance(value, dict):
        raise _undecodable(f"it is a {type(value).__name__}, not an object")
    return value


def encode_document(document: dict[str, Any], form: Format) -> bytes:
    """Encode a map; ``ndarray`` values become nested lists (JSON) or typed arrays (CBOR).

    Arrays of uint8 are written as they are, all others as float32. Numbers in JSON are the shortest
    that read back as the same float32, so that a round trip changes no bit.
    """
    if form is Format.CBOR:
        return cbor2.dumps(document, default=_encode_cbor_array)
    try:  # most documents are small and hold none: one call into C
        return _WITHOUT_ARRAYS.encode(document).encode()
    except _HasArray:
        return _json_text(document).encode()


class _HasArray(Exception):
    """The document has something that only :func:`_json_text` writes."""


def _has_array(value: Any) -> Any:
    raise _HasArray


_WITHOUT_ARRAYS: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False, default=_has_array
)


def _undecodable(why: str) -> MessageError:
    return MessageError(
        Reason.UNDECODABLE,
        f"the document cannot be read: {why}",
        hint="one JSON object, or one CBOR map with text keys",
    )


def _decode_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise _undecodable("it is nested too deep") from None
    except ValueError as err:  # JSONDecodeError, UnicodeDecodeError, absurdly long integers
        raise _undecodable(f"not JSON: {err}") from None


def _decode_cbor(data: bytes, labels: Mapping[int, str] | None) -> Any:
    try:
        return read_plain(data, _TYPED_ARRAYS)
    except NotPlain:  # not contextlib.suppress, which takes as long as a small array
        pass
    try:
        stream = io.BytesIO(data)
        value = cbor2.CBORDecoder(
            stream,
            tag_hook=_decode_tag,
            semantic_decoders=_REFUSED_TAGS,
            max_depth=MAX_DEPTH,
        ).decode()
        if stream.tell() != len(data):
            raise _undecodable(f"{len(data) - stream.tell()} bytes follow the CBOR map")
    except MessageError:
        raise
    except RecursionError:
        raise _undecodable("it is nested too deep") from None
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError) as err:
        if isinstance(err.__cause__, MessageError):  # ours, from the tag hook
            raise err.__cause__ from None
        raise _undecodable(f"not CBOR: {err}") from None
    if labels is not None:
        value = with_names(value, labels)
    _check_plain(value)
    return value


def _check_plain(document: Any) -> None:
    """Keys are text everywhere, and values what JSON has, or arrays of numbers."""
    pending = [document]
    while pending:
        value = pending.pop()
        if type(value) is dict:
            if any(type(key) is not str for key in value):
                raise _undecodable("a key is not text")
            pending.extend(value.values())
        elif type(value) is list:
            if not _NUMBERS.issuperset(map(type, value)):
                pending.extend(value)
        elif type(value) not in _PLAIN:
            raise _undecodable(f"it holds a value of type {type(value).__name__}")


def _decode_tag(tag: Any, *_: Any) -> Any:
    if tag.tag in _TYPED_ARRAYS:
        if not isinstance(tag.value, bytes):
            raise _undecodable(f"typed array (tag {tag.tag}) without a byte string")
        dtype = _TYPED_ARRAYS[tag.tag]
        if len(tag.value) % dtype.itemsize:
            raise _undecodable(f"typed array of {len(tag.value)} bytes, {dtype.itemsize} each")
        return np.frombuffer(tag.value, dtype)
    if tag.tag == _ROW_MAJOR:
        return _shaped(tag.value)
    raise _undecodable(f"tag {tag.tag} has no meaning here")


def _refuse_tag(value: Any, *_: Any) -> Any:
    raise _undecodable("it holds a tag that has no meaning here")


_REFUSED_TAGS: Final = dict.fromkeys(_READ_BY_CBOR2, _refuse_tag)


def _shaped(value: Any) -> np.ndarray[Any, Any]:
    match value:
        case [list(dims) | tuple(dims), np.ndarray() as flat] if all(
            type(size) is int and 0 <= size < _MAX_ELEMENTS for size in dims
        ):
            if len(dims) <= MAX_DEPTH and _product(dims) == flat.size:
                return flat.reshape(tuple(dims))
            raise _undecodable(f"an array of {flat.size} elements does not have shape {dims[:8]}")
    raise _undecodable("tag 40 holds no [dimensions, typed array]")


def _product(sizes: list[int] | tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _encode_cbor_array(encoder: Any, value: Any) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} has no CBOR form here")
    if value.ndim == 0:
        encoder.encode(float(value))
        return
    tag, dtype = (_UINT8, "u1") if value.dtype == np.uint8 else (_FLOAT32_LE, "<f4")
    flat = cbor2.CBORTag(tag, np.ascontiguousarray(value, dtype).tobytes())
    encoder.encode(
        flat if value.ndim == 1 else cbor2.CBORTag(_ROW_MAJOR, [list(value.shape), flat])
    )


def _json_text(value: Any) -> str:
    if isinstance(value, dict):
        items = (f"{json.dumps(str(key))}:{_json_text(item)}" for key, item in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, np.ndarray):
        # numpy's text form of a float32 is the shortest that reads back as the same float32
        dtype = np.uint8 if value.dtype == np.uint8 else np.float32
        return _nested(np.asarray(value, dtype).astype("U32").tolist())
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _nested(texts: Any) -> str:
    if isinstance(texts, str):
        return texts
    if texts and isinstance(texts[0], str):
        return "[" + ",".join(texts) + "]"
    return "[" + ",".join(_nested(item) for item in texts) + "]"
