"""safetensors files: how a model lies on disk, and how its document is had back from there.

A file of ours has one entry in its metadata, ``propeller_fl``: a JSON object with the ``version``,
the ``order`` of the tensors, which the format itself does not keep, and of the document that was
published its ``format``, ``size_bytes`` and ``sha256``. One entry, because the library writes
several in an order of its own, and the same model must always be the same bytes.

The library writes the files and checks each before anything of it is believed.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import cbor2
import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from propeller_fl.errors import MessageError
from propeller_fl.log import printable
from propeller_fl.wire import Format, Model, Reason, Tensors, format_of, is_sha256

METADATA: Final = "propeller_fl"
MAX_HEADER_BYTES: Final = 4 * 1024 * 1024

_LENGTH_BYTES: Final = 8
_MAX_WHY_CHARS: Final = 300
_TAG_ROW_MAJOR: Final = b"\xd8\x28"  # RFC 8746: 40, and
_TAG_FLOAT32_LE: Final = b"\xd8\x55"  # 85
_BYTES, _ARRAY, _MAP = 2, 4, 5  # major types of CBOR

Piece = bytes | range
"""Bytes as they are, or those of the file from ``start`` to ``stop``."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor in a file: ``dtype`` as the format names it (``F32``), and where its bytes lie."""

    dtype: str
    shape: tuple[int, ...]
    place: range


@dataclass(frozen=True, slots=True)
class Origin:
    """The document that a file was made of."""

    format: Format
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The header of a safetensors file, tensors in the order of the model."""

    tensors: Mapping[str, TensorPlace]
    version: int | None = None
    origin: Origin | None = None

    @classmethod
    def read(cls, path: Path) -> TensorFile:
        """Raises :class:`MessageError` for a file that is none, :class:`OSError`."""
        with path.open("rb") as file:
            header = _header_of(file)
        try:
            with safe_open(path, framework="numpy"):  # maps it, and checks lengths and offsets
                pass
        except SafetensorError as err:
            raise _no_file(str(err)) from None
        return cls._parse(header)

    @classmethod
    def of(cls, data: bytes) -> TensorFile:
        """The same of a file's bytes."""
        header = _header_of(io.BytesIO(data))
        try:
            deserialize(data)  # type: ignore[no-untyped-call]
        except SafetensorError as err:
            raise _no_file(str(err)) from None
        return cls._parse(header)

    @classmethod
    def _parse(cls, header: bytes) -> TensorFile:
        try:
            entries = json.loads(header)
        except (ValueError, RecursionError) as err:
            raise _no_file(str(err)) from None
        start = _LENGTH_BYTES + len(header)
        metadata = entries.pop("__metadata__", {})
        found = {
            name: TensorPlace(
                entry["dtype"],
                tuple(entry["shape"]),
                range(start + entry["data_offsets"][0], start + entry["data_offsets"][1]),
            )
            for name, entry in entries.items()
        }
        ours = _ours(metadata.get(METADATA, "{}"))
        order = ours.get("order")
        if isinstance(order, list) and _are_the_same(order, found):
            found = {name: found[name] for name in order}
        version = ours.get("version")
        return cls(found, version if type(version) is int else None, _origin(ours))

    def document(self, file: BinaryIO) -> Iterator[Piece]:
        """The CBOR document of the model, as ``Model.encode`` writes it. Float32 only; ``file`` is
        read from where a number stands in the document itself."""
        yield _head(_MAP, len(self.tensors) + (self.version is not None))
        for name, tensor in self.tensors.items():
            yield cbor2.dumps(name)
            if not tensor.shape:
                file.seek(tensor.place.start)
                yield cbor2.dumps(struct.unpack("<f", file.read(4))[0])
                continue
            if len(tensor.shape) > 1:
                yield _TAG_ROW_MAJOR + _head(_ARRAY, 2) + cbor2.dumps(list(tensor.shape))
            yield _TAG_FLOAT32_LE + _head(_BYTES, len(tensor.place))
            yield tensor.place
        if self.version is not None:
            yield cbor2.dumps("version") + cbor2.dumps(self.version)


class DocumentFile(io.RawIOBase):
    """A document in pieces as a file to read from, in constant memory. Closes ``file`` with it."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self.name = file.name
        self._file = file
        self._pieces = _joined(pieces)
        self._ends = list(itertools.accumulate(map(len, self._pieces)))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        index = bisect.bisect_right(self._ends, self._position)
        if index == len(self._pieces):
            return 0
        piece = self._pieces[index]
        skipped = self._position - (self._ends[index] - len(piece))
        count = self._copy(piece[skipped : skipped + len(view)], view)
        self._position += count
        return count

    def _copy(self, piece: Piece, view: memoryview) -> int:
        if isinstance(piece, bytes):
            view[: len(piece)] = piece
            return len(piece)
        self._file.seek(piece.start)
        return cast(io.BufferedReader, self._file).readinto(view[: len(piece)])

    def close(self) -> None:
        self._file.close()
        super().close()


def pack(document: bytes) -> bytes:
    """A model's document as a file. Raises :class:`MessageError` for what is no model, or cannot be
    one in this format."""
    model = Model.decode(document)
    origin = Origin(format_of(document), len(document), hashlib.sha256(document).hexdigest())
    return save_tensors(model.tensors, model.version, origin)


def save_tensors(tensors: Tensors, version: int | None, origin: Origin | None = None) -> bytes:
    """Tensors as a file. Raises :class:`MessageError` for a name that the format keeps for itself,
    or a header that is too large."""
    if "__metadata__" in tensors:
        raise MessageError(
            Reason.BAD_FIELD,
            "a safetensors file has no room for a tensor named '__metadata__'",
            field="__metadata__",
            hint="rename it, or take another format",
        )
    data = save(
        {name: np.asarray(array, "<f4") for name, array in tensors.items()},
        metadata={METADATA: metadata_of(tensors, version, origin)},
    )
    if int.from_bytes(data[:_LENGTH_BYTES], "little") > MAX_HEADER_BYTES:
        raise MessageError(
            Reason.TOO_LARGE, f"{len(tensors)} tensors are too many for a safetensors file of ours"
        )
    return data


def metadata_of(names: Iterable[str], version: int | None, origin: Origin | None = None) -> str:
    """What goes under the key ``METADATA``."""
    ours: dict[str, Any] = {} if version is None else {"version": version}
    if origin is not None:
        ours |= {"format": origin.format, "sha256": origin.sha256, "size_bytes": origin.size_bytes}
    return json.dumps(ours | {"order": list(names)}, separators=(",", ":"))


def gives_back(data: bytes, document: bytes) -> bool:
    """Whether the file ``data`` gives exactly this document back."""
    file = io.BytesIO(data)
    return whole_document(file, TensorFile.of(data)) == document


def whole_document(file: BinaryIO, header: TensorFile) -> bytes:
    """The document of a small model in one piece."""
    found = bytearray()
    for piece in header.document(file):
        if isinstance(piece, bytes):
            found += piece
        else:
            file.seek(piece.start)
            found += file.read(len(piece))
    return bytes(found)


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same with neighbouring bytes put together."""
    joined: list[Piece] = []
    for kind, group in itertools.groupby(pieces, type):
        same = list(group)
        joined += [b"".join(cast("list[bytes]", same))] if kind is bytes else same
    return joined


def _header_of(file: BinaryIO) -> bytes:
    size_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 2 <= size_bytes <= MAX_HEADER_BYTES:
        raise _no_file(f"its header would have {size_bytes} bytes")
    return file.read(size_bytes)


def _ours(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _origin(ours: Mapping[str, Any]) -> Origin | None:
    match ours:
        case {"format": str(form), "sha256": str(sha256), "size_bytes": int(size_bytes)} if (
            form in list(Format) and is_sha256(sha256)
        ):
            return Origin(Format(form), size_bytes, sha256)
    return None


def _are_the_same(order: list[Any], names: Mapping[str, object]) -> bool:
    return (
        len(order) == len(names)
        and all(isinstance(name, str) and name in names for name in order)
        and len(set(order)) == len(order)
    )


def _no_file(why: str) -> MessageError:
    why = printable(why)[:_MAX_WHY_CHARS]  # it may quote the file
    return MessageError(Reason.UNDECODABLE, f"it is no safetensors file: {why}")


def _head(major: int, value: int) -> bytes:
    """The first bytes of a CBOR item (RFC 8949, section 3)."""
    major <<= 5
    if value < 24:
        return bytes([major | value])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * size:
            return bytes([major | info]) + value.to_bytes(size, "big")
    raise ValueError(f"CBOR has no length of {value}")
