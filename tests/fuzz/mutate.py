"""Changes inputs: bytes as bytes, and documents as trees, written again in either form."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import cbor2

from tests.fuzz.target import MAX_INPUT_BYTES, Mutate

_ODD_BYTES: Final = (
    b"\x00\x01\x1f \"'+-./09:;=@AZ[\\]az{}~\x7f\x80\xa0\xbf\xc2\xd8\xdf\xe0\xed\xf4\xf9\xfb\xff"
)
_CHANGES_AT_ONCE: Final = 4
_TREE_SHARE: Final = 0.7  # of changes to a document that keep it one


def byte_mutator(tokens: Sequence[bytes]) -> Mutate:
    """Changes single bytes, runs of them, and puts in ``tokens``."""

    def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(rng.randint(1, _CHANGES_AT_ONCE)):
            rng.choice(_BYTE_CHANGES)(rng, changed, other)
            if tokens and rng.random() < 0.3:
                _put_in(rng, changed, rng.choice(tokens))
        return bytes(changed[:MAX_INPUT_BYTES])

    return mutate


def document_mutator(tokens: Sequence[bytes], names: Sequence[str]) -> Mutate:
    """Changes fields of JSON and CBOR documents, ``names`` being those of the message; now and then
    their bytes as well."""
    mutate_bytes = byte_mutator(tokens)

    def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
        changed = data
        if rng.random() < _TREE_SHARE:
            changed = _changed_document(rng, data, other, names) or data
        if changed is data or rng.random() < 0.1:
            changed = mutate_bytes(rng, changed, other)
        return changed[:MAX_INPUT_BYTES]

    return mutate


# bytes


def _flip(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        odd = rng.choice(_ODD_BYTES) if rng.random() < 0.5 else rng.randrange(256)
        data[rng.randrange(len(data))] = odd


def _leave_out(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, stop = _range(rng, len(data))
    del data[start:stop]


def _repeat(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, stop = _range(rng, len(data))
    if (stop - start) * 8 < MAX_INPUT_BYTES:
        data[start:start] = data[start:stop] * rng.choice((1, 1, 1, 2, 8))


def _splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, stop = _range(rng, len(other))
    _put_in(rng, data, other[start:stop])


def _cut(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[rng.randint(0, len(data)) :]


def _count(rng: random.Random, data: bytearray, other: bytes) -> None:
    """Change a decimal digit, or a byte by a little."""
    if data:
        at = rng.randrange(len(data))
        data[at] = (data[at] + rng.choice((-1, 1))) % 256


_BYTE_CHANGES: Final[Sequence[Callable[[random.Random, bytearray, bytes], None]]] = (
    _flip,
    _overwrite,
    _overwrite,
    _leave_out,
    _repeat,
    _splice,
    _cut,
    _count,
)


def _put_in(rng: random.Random, data: bytearray, piece: bytes) -> None:
    """Over something or in between."""
    at = rng.randint(0, len(data))
    end = at + len(piece) if rng.random() < 0.5 else at
    data[at:end] = piece


def _range(rng: random.Random, size: int) -> tuple[int, int]:
    """Short ones mostly."""
    start = rng.randint(0, size)
    longest = size - start
    return start, start + rng.randint(0, min(longest, rng.choice((1, 4, 16, 64, longest + 1))))


# documents

_VALUES: Final[Sequence[Any]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**43 + 1,
    2**63,
    2**64,
    -(2**64),
    10**400,
    2**20000,
    0.5,
    -0.0,
    1e39,
    1e308,
    float("nan"),
    float("inf"),
    "",
    ".",
    "..",
    "a",
    "r-1",
    "a/b",
    "+",
    "#",
    "\0",
    "\ud800",
    "é😀",
    "fl/models/global_model_v0",
    "0" * 64,
    "x" * 5000,
    [],
    {},
    [[]],
    [1, [2]],
    [1, "a"],
    [[1, 2], [3, 4]],
    b"",
    b"\0\0\x80\x3f",
    cbor2.undefined,
    cbor2.CBORSimpleValue(255),
    cbor2.CBORTag(85, b"\0\0\x80\x3f" * 4),
    cbor2.CBORTag(85, b"\0\0\xc0\x7f"),
    cbor2.CBORTag(82, b"\x7f\xf0" + bytes(6)),
    cbor2.CBORTag(64, b"\1\2\3"),
    cbor2.CBORTag(40, [[2, 2], cbor2.CBORTag(85, b"\0\0\x80\x3f" * 4)]),
    cbor2.CBORTag(40, [[2**40, 0], cbor2.CBORTag(85, b"")]),
    cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)]),
    cbor2.CBORTag(4, [2**40, 1]),
    cbor2.CBORTag(5, [2**40, 1]),
    cbor2.CBORTag(2, b"\xff" * 4000),
    cbor2.CBORTag(0, "2020-01-01T00:00:00Z"),
    cbor2.CBORTag(1, 1e300),
    cbor2.CBORTag(258, [1]),
    cbor2.CBORTag(35, "(a+)+$"),
)
_TAGS: Final = (
    *range(64, 88),
    40,
    0,
    1,
    2,
    3,
    4,
    5,
    25,
    28,
    29,
    30,
    35,
    36,
    37,
    100,
    256,
    258,
    1004,
)
_DEPTHS: Final = (5, 33, 63, 64, 65, 200, 900, 1200, 5000)


def _changed_document(
    rng: random.Random, data: bytes, other: bytes, names: Sequence[str]
) -> bytes | None:
    document = _parse(data)
    if document is None:
        return None
    if rng.random() < 0.05:
        return _deep(rng, document, names)
    for _ in range(rng.randint(1, _CHANGES_AT_ONCE)):
        _change_somewhere(rng, document, _parse(other) or {}, names)
    return _write(rng, document)


def _change_somewhere(
    rng: random.Random, document: dict[str, Any], other: dict[str, Any], names: Sequence[str]
) -> None:
    place: Any = document
    while rng.random() < 0.6:  # some levels down
        inner = [item for item in _items(place) if isinstance(item, dict | list)]
        if not inner:
            break
        place = rng.choice(inner)
    if isinstance(place, list):
        at = rng.randint(0, len(place))
        place[at : at + rng.choice((0, 1))] = [_value(rng, other)] * rng.choice((0, 1, 1, 1, 9))
        return
    known = list(place)
    name = rng.choice(known) if known and rng.random() < 0.8 else rng.choice(names)
    match rng.randrange(8):
        case 0:
            place.pop(name, None)
        case 1:
            place[rng.choice(names)] = place.pop(name, 0)
        case 2:
            place[name] = cbor2.CBORTag(rng.choice(_TAGS), place.get(name, 1))
        case 3:
            place[rng.choice(("", "a" * 200, "\ud800", "\n", "=", "a=b", "\0"))] = place.get(name)
        case _:
            place[name] = _value(rng, other)


def _value(rng: random.Random, other: dict[str, Any]) -> Any:
    if other and rng.random() < 0.3:
        return rng.choice(list(other.values()))
    if rng.random() < 0.2:
        return rng.randrange(-100, 100) * rng.choice((1, 1, 0.25, 10**9))
    return rng.choice(_VALUES)


def _items(place: Any) -> list[Any]:
    return list(place.values()) if isinstance(place, dict) else place


def _deep(rng: random.Random, document: dict[str, Any], names: Sequence[str]) -> bytes | None:
    """One field nested as deep as readers can just go, and deeper."""
    depth = rng.choice(_DEPTHS) + rng.randint(-3, 3)
    document.pop("deep", None)
    name = rng.choice(list(document) or list(names))
    document[name] = "deep"
    written = _write(rng, document)
    if written is None:
        return None
    cbor = written[:1] not in b"{"
    mark = cbor2.dumps("deep") if cbor else b'"deep"'
    openings = (b"\x81", b"\xa1\x61a") if cbor else (b"[", b'{"a":')
    kind = rng.randrange(2)
    closing = b"" if cbor else (b"]", b"}")[kind] * depth
    return written.replace(mark, openings[kind] * depth + b"1" + closing, 1)


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        if data[:1] == b"{":
            document = json.loads(data)
        else:
            document = cbor2.CBORDecoder(io.BytesIO(data), semantic_decoders=_KEPT_TAGS).decode()
    except Exception:  # then it is no document, and changed as bytes
        return None
    return document if isinstance(document, dict) else None


def _kept(number: int) -> Callable[[Any, bool], cbor2.CBORTag]:
    return lambda value, immutable: cbor2.CBORTag(number, value)


# Tags stay as they are, so that they are written again: followed, references can grow without end.
_KEPT_TAGS: Final = {number: _kept(number) for number in range(1100)}


def _write(rng: random.Random, document: dict[str, Any]) -> bytes | None:
    try:
        if rng.random() < 0.5:
            return json.dumps(document).encode()
        return cbor2.dumps(document)
    except Exception:  # a value that this form cannot hold, such as a tag in JSON
        return None
