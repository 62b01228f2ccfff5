"""What stands for a model that is too large for one message: digests of the parts of its file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import Format, decode_document, format_of
from propeller_fl.wire._fields import Fields
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._tensors import MAX_NAME_CHARS, MAX_RANK, Shapes, size_of
from propeller_fl.wire._topics import check_id, is_sha256

MIN_PART_BYTES: Final = 4 * 1024
MAX_PART_BYTES: Final = 8 * 1024 * 1024
MAX_PARTS: Final = 65_536
MAX_WANTED: Final = 256
_MAX_BYTES: Final = 1 << 40
_MEMBER: Final = "manifest"
_FORMAT: Final = "safetensors"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's safetensors file: its digest, and those of its parts, in order.

    Each part has ``part_bytes`` bytes, the last one what is left. ``shapes`` are those of the
    tensors, all float32, in the order of the model.
    """

    version: int
    size_bytes: int
    sha256: str
    part_bytes: int
    parts: tuple[str, ...]
    shapes: Shapes

    @classmethod
    def decode(cls, data: bytes) -> Manifest | None:
        """The manifest in a model's document, ``None`` when the document holds the model itself.

        Raises :class:`MessageError` for a manifest that cannot be.
        """
        if format_of(data) is not Format.JSON or b'"manifest"' not in data:
            return None
        document = decode_document(data)
        if not isinstance(document.get(_MEMBER), dict):
            return None  # a tensor of that name
        version = Fields(document).integer("version", low=0, high=10**18 - 1)
        return cls.parse(document[_MEMBER], version)

    @classmethod
    def parse(cls, member: dict[str, Any], version: int) -> Manifest:
        """The manifest in the member of a document. Raises :class:`MessageError`."""
        fields = Fields(member)
        if fields.text("format", max_chars=32) != _FORMAT:
            raise _bad("manifest.format", "is another", f"{_FORMAT!r} is what is read")
        manifest = cls(
            version=version,
            size_bytes=fields.integer("size_bytes", low=1, high=_MAX_BYTES),
            sha256=_digest(fields.text("sha256", max_chars=64), "manifest.sha256"),
            part_bytes=fields.integer("part_bytes", low=MIN_PART_BYTES, high=MAX_PART_BYTES),
            parts=_digests(fields.sequence("parts"), "manifest.parts", MAX_PARTS),
            shapes=_shapes(fields.mapping("tensors")),
        )
        wanted = -(-manifest.size_bytes // manifest.part_bytes)
        if len(manifest.parts) != wanted:
            raise _bad("manifest.parts", f"has {len(manifest.parts)} digests", f"{wanted} it takes")
        if not 0 < 4 * size_of(manifest.shapes) < manifest.size_bytes:
            raise _bad("manifest.tensors", "does not fit size_bytes", "4 bytes for each parameter")
        return manifest

    def encode(self) -> bytes:
        """The document that is published for the model, always the same bytes."""
        document = {"version": self.version, _MEMBER: self.member()}
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    def member(self) -> dict[str, Any]:
        """What stands in a document under ``manifest``."""
        return {
            "format": _FORMAT,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "part_bytes": self.part_bytes,
            "tensors": {name: list(shape) for name, shape in self.shapes.items()},
            "parts": list(self.parts),
        }

    def place(self, index: int) -> range:
        """Which bytes of the file a part is."""
        start = index * self.part_bytes
        return range(start, min(start + self.part_bytes, self.size_bytes))


@dataclass(frozen=True, slots=True)
class PartsWanted:
    """Who wants which parts (``fl/parts/wanted``): whoever has one publishes it."""

    sender: str
    parts: tuple[str, ...]

    @classmethod
    def decode(cls, data: bytes) -> PartsWanted:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            check_id(fields.text("from", max_chars=64), "from"),
            _digests(fields.sequence("parts"), "parts", MAX_WANTED),
        )

    def encode(self) -> bytes:
        document = {"from": self.sender, "parts": list(self.parts)}
        return json.dumps(document, separators=(",", ":")).encode()


def _shapes(value: dict[str, Any]) -> Shapes:
    shapes: Shapes = {}
    for name, shape in value.items():
        field = f"manifest.tensors.{name[:40]!r}"
        if not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
            raise _bad(field, "has no proper name", f"1 to {MAX_NAME_CHARS} printable characters")
        if not isinstance(shape, list) or len(shape) > MAX_RANK:
            raise _bad(field, "has no shape", f"at most {MAX_RANK} whole numbers")
        if not all(type(size) is int and 0 < size <= _MAX_BYTES for size in shape):
            raise _bad(field, "has a size that cannot be", "whole numbers above 0")
        parameters = 1
        for size in shape:
            parameters *= size
        if parameters > _MAX_BYTES:  # also so that the sum of all stays in 63 bits
            raise _bad(field, f"has {str(parameters)[:40]} parameters", f"at most {_MAX_BYTES}")
        shapes[name] = tuple(shape)
    if len(shapes) > MAX_PARTS:
        raise _bad("manifest.tensors", f"has {len(shapes)} names", f"at most {MAX_PARTS}")
    return shapes


def _digests(values: list[Any], field: str, most: int) -> tuple[str, ...]:
    if not 1 <= len(values) <= most:
        raise _bad(field, f"has {len(values)} digests", f"from 1 to {most}")
    return tuple(_digest(value, field) for value in values)


def _digest(value: Any, field: str) -> str:
    if isinstance(value, str) and is_sha256(value):
        return value
    raise _bad(field, "is not a digest", "64 lower-case hexadecimal digits")


def _bad(name: str, what: str, hint: str) -> MessageError:
    return MessageError(Reason.BAD_FIELD, f"{name} {what}", field=name, hint=hint)
