"""A quick way to read an update that is laid out as one before it.

The updates of a round differ in a name, a few numbers and the arrays; where these stand, and all
that is between them, is the same in each document of one length. So a document that was read in
full is remembered as its layout: literal bytes, and gaps of known lengths and types between them.
The next one of that length is taken apart by one ``struct`` and compared, and only what is in its
gaps is looked at. What differs elsewhere, or has anything in a gap that is not plainly good, is
left to :meth:`Update.decode`, which reads it or says what is wrong with it. So nothing is taken
here that is refused there (``tests/wire/test_update_layout.py``).
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import Format, format_of
from propeller_fl.wire._round_messages import MAX_SAMPLES, MAX_URI_CHARS, Update
from propeller_fl.wire._tensors import Shapes, Tensor, flatten
from propeller_fl.wire._topics import check_id

_MAX_KEPT: Final = 32  # layouts, each for documents of one length
_MAX_GAPS: Final = 512
_MAX_LITERAL_BYTES: Final = 32 * 1024  # of one layout
_MAX_TRUST: Final = 8
_ROW_MAJOR: Final = b"\xd8\x28\x82"  # tag 40 and a list of two
_FLOAT32_LE: Final = b"\xd8\x55"  # tag 85
_FLOATS: Final = {0xF9: "e", 0xFA: "f", 0xFB: "d"}
_COUNTS: Final = {0x18: "B", 0x19: "H", 0x1A: "I", 0x1B: "Q"}
_TEXTS: Final = ("round_id", "proplet_id", "base_model_uri")
_MEMBERS: Final = frozenset((*_TEXTS, "num_samples", "metrics", "update"))


class PlainUpdate(NamedTuple):
    """An :class:`Update` of whole float32 tensors, these as one vector in the order of ``shapes``.

    Nobody may change ``shapes``: updates share them.
    """

    round_id: str
    proplet_id: str
    base_model_uri: str
    num_samples: int
    metrics: Mapping[str, float]
    shapes: Shapes
    vector: Tensor


class UpdateLayouts:
    """The layouts of the last updates. One thread."""

    def __init__(self) -> None:
        self._by_size: OrderedDict[int, _Layout] = OrderedDict()

    def read(self, data: bytes) -> PlainUpdate | None:
        """The update, if it is laid out as one that was learned; ``None`` tells nothing of it."""
        layout = self._by_size.get(len(data))
        return layout.read(data) if layout is not None else None

    def learn(self, data: bytes, update: Update) -> None:
        """``update`` was read from ``data``, which :meth:`read` did not know.

        Two layouts of one length would take turns in being learned, which takes longer than to read
        without; so one that served well goes only when it has failed as often.
        """
        known = self._by_size.get(len(data))
        if known is not None and known.trust:
            known.trust -= 1
            return
        layout = _Scan(data).layout() if format_of(data) is Format.CBOR else None
        if layout is None or not _agree(layout.read(data), update):
            return
        self._by_size[len(data)] = layout
        self._by_size.move_to_end(len(data))
        if len(self._by_size) > _MAX_KEPT:
            self._by_size.popitem(last=False)


def _agree(plain: PlainUpdate | None, update: Update) -> bool:
    """Whether both say the same."""
    return (
        plain is not None
        and not update.deltas
        and (plain.round_id, plain.proplet_id) == (update.round_id, update.proplet_id)
        and (plain.base_model_uri, plain.num_samples) == (update.base_model_uri, update.num_samples)
        and plain.metrics == update.metrics
        and list(plain.shapes.items()) == list(update.shapes.items())
        and plain.vector.tobytes() == flatten(update.tensors, update.shapes).tobytes()
    )


class _Layout:
    """``form`` takes a document apart into literals, texts and numbers, and passes over arrays.

    ``literals`` are its values that must be as they are, by their places among all. ``scan`` tells
    what else there is, ``places`` where the gaps have their values.
    """

    __slots__ = (
        "_arrays", "_count", "_form", "_last_texts", "_literals", "_literals_of", "_metrics",
        "_scan", "_texts", "trust",
    )  # fmt: skip

    def __init__(
        self, form: struct.Struct, literals: Mapping[int, bytes], scan: _Scan, places: list[int]
    ) -> None:
        self._form = form
        self._literals = tuple(literals.values())
        self._literals_of = itemgetter(*literals)  # two at least: at the beginning and the end
        self._scan = scan
        self._texts = [(name, places[scan.texts[name]]) for name in _TEXTS]
        self._count = None if scan.count is None else places[scan.count]
        metrics = places[scan.metrics]
        self._metrics = slice(metrics[0], metrics[-1] + 1, 2) if metrics else slice(0)
        self._arrays = scan.gaps[scan.arrays]
        self._last_texts: dict[str, tuple[bytes, str]] = {}
        self.trust = 0

    def read(self, data: bytes) -> PlainUpdate | None:
        """The update in a document of this length."""
        parts = self._form.unpack(data)
        if self._literals_of(parts) != self._literals:
            return None
        scan = self._scan
        samples = scan.num_samples if self._count is None else parts[self._count]
        metrics = parts[self._metrics]
        if not 1 <= samples <= MAX_SAMPLES or not all(map(math.isfinite, metrics)):
            return None
        view = memoryview(data)
        arrays = b"".join([view[start:stop] for start, stop, _ in self._arrays])
        vector = np.frombuffer(arrays, "<f4")
        if not math.isfinite(np.vdot(vector, vector)):
            return None  # finite numbers may have a sum of squares that is not
        try:
            round_id, proplet_id, uri = [self._text(name, parts[at]) for name, at in self._texts]
        except (UnicodeDecodeError, MessageError):
            return None
        self.trust = _MAX_TRUST
        named = dict(zip(scan.metric_names, metrics, strict=True))
        return PlainUpdate(round_id, proplet_id, uri, samples, named, scan.shapes, vector)

    def _text(self, name: str, raw: bytes) -> str:
        """Most are as in the document before."""
        last = self._last_texts.get(name)
        if last is not None and last[0] == raw:
            return last[1]
        text = raw.decode()
        if name != "base_model_uri":
            check_id(text, name)
        self._last_texts[name] = raw, text
        return text


class _Unusual(Exception):
    """The document has something that no layout describes."""


class _Scan:
    """Finds the gaps of a document that :meth:`Update.decode` takes."""

    def __init__(self, data: bytes) -> None:
        self.texts: dict[str, int] = {}
        self.count: int | None = None
        self.num_samples = 0
        self.metrics = self.arrays = slice(0)
        self.metric_names: list[str] = []
        self.shapes: Shapes = {}
        self._data = data
        self._at = 0
        self.gaps: list[tuple[int, int, str]] = []

    def layout(self) -> _Layout | None:
        """``None`` for an unusual document."""
        try:
            self._document()
        except (_Unusual, IndexError, UnicodeDecodeError):
            return None
        data, end, values = self._data, 0, 0
        whole = ">"
        literals: dict[int, bytes] = {}
        places: list[int] = []
        for start, stop, form in self.gaps:
            literals[values] = data[end:start]
            places.append(values + 1)
            values += 1 if form.endswith("x") else 2  # an array makes no value
            whole += f"{start - end}s{form}"
            end = stop
        literals[values] = data[end:]
        if sum(map(len, literals.values())) > _MAX_LITERAL_BYTES:
            return None
        self._data = b""  # what is kept with the layout is not the document
        return _Layout(struct.Struct(f"{whole}{len(data) - end}s"), literals, self, places)

    def _document(self) -> None:
        found: set[str] = set()
        for _ in range(self._map()):
            name = self._key()
            if name in found:
                raise _Unusual
            found.add(name)
            if name in _TEXTS:
                self.texts[name] = len(self.gaps)
                size_bytes = self._size(0x60)
                if size_bytes > MAX_URI_CHARS:  # else as many bytes might be too many characters
                    raise _Unusual
                self._gap(size_bytes, "s")
            elif name == "num_samples":
                self._samples()
            elif name == "metrics":
                self.metrics = self._metrics()
            elif name == "update":
                self.arrays = self._arrays()
            else:
                raise _Unusual
        if found != _MEMBERS or self._at != len(self._data):
            raise _Unusual

    def _samples(self) -> None:
        form = _COUNTS.get(self._data[self._at])
        if form is None:
            self.num_samples = self._size(0)
        else:
            self._at += 1
            self.count = len(self.gaps)
            self._gap(struct.calcsize(f">{form}"), form)

    def _metrics(self) -> slice:
        first = len(self.gaps)
        for _ in range(self._map()):
            self.metric_names.append(self._key())
            form = _FLOATS.get(self._data[self._at])
            if form is None:
                raise _Unusual
            self._at += 1
            self._gap(struct.calcsize(f">{form}"), form)
        return slice(first, len(self.gaps))

    def _arrays(self) -> slice:
        first = len(self.gaps)
        for _ in range(self._map()):
            name = self._key()
            if name in self.shapes:
                raise _Unusual
            shape = None
            if self._data.startswith(_ROW_MAJOR, self._at):
                self._at += len(_ROW_MAJOR)
                shape = tuple(self._size(0) for _ in range(self._size(0x80)))
            if not self._data.startswith(_FLOAT32_LE, self._at):
                raise _Unusual
            self._at += len(_FLOAT32_LE)
            size_bytes = self._size(0x40)
            self.shapes[name] = shape if shape is not None else (size_bytes // 4,)
            self._gap(size_bytes, "x")
        return slice(first, len(self.gaps))

    def _gap(self, size_bytes: int, form: str) -> None:
        stop = self._at + size_bytes
        if stop > len(self._data) or len(self.gaps) == _MAX_GAPS:
            raise _Unusual
        self.gaps.append((self._at, stop, f"{size_bytes}{form}" if form in "sx" else form))
        self._at = stop

    def _map(self) -> int:
        return self._size(0xA0)

    def _key(self) -> str:
        stop = self._size(0x60) + self._at
        key = self._data[self._at : stop].decode()
        self._at = stop
        return key

    def _size(self, kind: int) -> int:
        """The argument of an item whose first byte is ``kind`` and more."""
        low = self._data[self._at] - kind
        self._at += 1
        if 0 <= low < 24:
            return low
        if not 24 <= low <= 27:
            raise _Unusual
        stop = self._at + (1 << (low - 24))
        size = int.from_bytes(self._data[self._at : stop], "big")
        self._at = stop
        return size
