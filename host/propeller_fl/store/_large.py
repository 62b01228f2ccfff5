"""Large models: safetensors files that are read in blocks and never held whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from safetensors.numpy import save_file

from propeller_fl.errors import MessageError, StoreError, TensorError
from propeller_fl.store._tensor_file import METADATA, TensorFile, metadata_of
from propeller_fl.wire import MAX_NAME_CHARS, MAX_RANK, Manifest, Model, Reason, Shapes, size_of

_BLOCK_BYTES: Final = 1024 * 1024


def shapes_in_file(path: Path) -> Shapes:
    """The tensors of a file that can be sent as it is: all float32, with elements.

    Raises :class:`MessageError`, :class:`OSError`.
    """
    shapes: Shapes = {}
    for name, tensor in TensorFile.read(path).tensors.items():
        if name == "version" or not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
            raise TensorError(
                Reason.BAD_FIELD, f"no tensor can have the name {name[:40]!r}", field=name[:40]
            )
        if tensor.dtype != "F32":
            raise TensorError(
                Reason.BAD_FIELD,
                f"tensor {name!r} holds {tensor.dtype}; a model as large as this is sent as it is",
                field=name,
                hint="convert it to float32 (F32) first",
            )
        if 0 in tensor.shape or len(tensor.shape) > MAX_RANK:
            raise TensorError(
                Reason.BAD_FIELD, f"tensor {name!r} has shape {list(tensor.shape)}", field=name
            )
        shapes[name] = tensor.shape
    if not shapes:
        raise TensorError(Reason.BAD_FIELD, "the file holds no tensors", field="model")
    return shapes


def check_finite(path: Path) -> None:
    """Raise :class:`TensorError` for NaN or infinity in a file of float32."""
    header = TensorFile.read(path)
    with path.open("rb") as file:
        for name, tensor in header.tensors.items():
            for block in _blocks(file, tensor.place):
                if not np.isfinite(np.frombuffer(block, "<f4")).all():
                    raise TensorError(
                        Reason.NOT_FINITE, f"{name} holds NaN or infinity", field=name
                    )


def manifest_of_file(path: Path, version: int, part_bytes: int) -> Manifest:
    """What is published for a safetensors file, read once. Raises as :func:`shapes_in_file`, and
    for numbers that are not finite."""
    shapes = shapes_in_file(path)
    check_finite(path)
    whole = hashlib.sha256()
    parts: list[str] = []
    with path.open("rb") as file:
        while part := file.read(part_bytes):
            whole.update(part)
            parts.append(hashlib.sha256(part).hexdigest())
        size_bytes = file.tell()
    return Manifest(version, size_bytes, whole.hexdigest(), part_bytes, tuple(parts), shapes)


def check_file(path: Path, manifest: Manifest) -> None:
    """Raise :class:`MessageError` unless the file is what the manifest says, by its digest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != manifest.sha256:
        raise MessageError(Reason.UNDECODABLE, f"{path.name} has not the SHA-256 of its manifest")
    if shapes_in_file(path) != manifest.shapes:
        raise MessageError(
            Reason.BAD_FIELD, "the manifest names other tensors than the file", field="tensors"
        )


def write_large(model: Model, path: Path) -> None:
    """A model in memory as such a file, durable. Raises :class:`OSError`."""
    metadata = {METADATA: metadata_of(model.tensors, None)}
    save_file({name: np.asarray(a, "<f4") for name, a in model.tensors.items()}, path, metadata)
    sync_file(path)


def copy_durably(source: Path, target: Path) -> None:
    """Raises :class:`OSError`."""
    with source.open("rb") as read, target.open("wb") as written:
        while block := read.read(_BLOCK_BYTES):
            written.write(block)
        written.flush()
        os.fsync(written.fileno())


def sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def tensor_bytes(shapes: Shapes) -> int:
    """What the numbers weigh as float32."""
    return 4 * size_of(shapes)


def _blocks(file: BinaryIO, place: range) -> Iterator[bytes]:
    file.seek(place.start)
    left_bytes = len(place)
    while left_bytes:
        block = file.read(min(left_bytes, _BLOCK_BYTES))
        if not block:
            raise StoreError(f"{file.name} has become shorter")
        left_bytes -= len(block)
        yield block
