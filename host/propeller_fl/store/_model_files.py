"""Models as files for people and other programs: JSON, CBOR, safetensors, npz."""

from __future__ import annotations

import hashlib
import io
import zipfile
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from propeller_fl.errors import MessageError, TensorError
from propeller_fl.log import printable
from propeller_fl.store._tensor_file import Origin, TensorFile, save_tensors
from propeller_fl.wire import MAX_VERSION, Format, Model, Reason, decode_tensors, format_of

_ZIP: Final = b"PK\x03\x04"
_MAX_BYTES: Final = 1 << 31  # of what a zip file says it holds
_VERSION: Final = "version"


class ModelFormat(StrEnum):
    """How a model is written to a file."""

    JSON = "json"
    CBOR = "cbor"
    SAFETENSORS = "safetensors"
    NPZ = "npz"


def convert(document: bytes, form: ModelFormat) -> bytes:
    """A model's document in another form, the same bytes each time; in its own form as it is.

    npz has the version as an array of its own, safetensors in its metadata (``propeller_fl``).
    Raises :class:`MessageError`.
    """
    if form == str(format_of(document)):
        return document
    model = Model.decode(document)
    match form:
        case ModelFormat.SAFETENSORS:
            digest = hashlib.sha256(document).hexdigest()
            origin = Origin(format_of(document), len(document), digest)
            return save_tensors(model.tensors, model.version, origin)
        case ModelFormat.NPZ:
            return _save_npz(model)
    return model.encode(Format(str(form)))


def read_model_file(data: bytes) -> Model:
    """A model from any of these forms, told by the first bytes.

    Numbers of other types become float32. Raises :class:`MessageError` as ``Model.decode`` does,
    for arrays that are no numbers, are not finite, or have no elements.
    """
    if data.startswith(_ZIP):
        return _from_npz(data)
    return Model.decode(data) if is_document(data) else _from_safetensors(data)


def is_document(data: bytes) -> bool:
    """Whether it is neither npz nor safetensors, by its first bytes."""
    return not data.startswith(_ZIP) and (data[8:9] != b"{" or data[:1] == b"{")


def _save_npz(model: Model) -> bytes:
    """As ``numpy.savez`` does, which has no room for a tensor named ``file``."""
    arrays: dict[str, NDArray[Any]] = dict(model.tensors)
    if model.version is not None:
        arrays[_VERSION] = np.asarray(model.version, np.int64)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _from_npz(data: bytes) -> Model:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
                raise _unreadable("npz", f"it says that it holds more than {_MAX_BYTES} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except MessageError:
        raise
    except Exception as err:  # zipfile and numpy raise all kinds for foreign bytes
        raise _unreadable("npz", str(err)) from None
    version = arrays.pop(_VERSION, None)
    return Model(_decoded(arrays), None if version is None else _version(version))


def _from_safetensors(data: bytes) -> Model:
    header = TensorFile.of(data)
    try:
        arrays = load(data)
    except Exception as err:  # of a type that numpy does not have, say
        kinds = sorted({tensor.dtype for tensor in header.tensors.values()})
        raise _unreadable("safetensors", f"{err}; it holds {', '.join(kinds)}") from None
    if _VERSION in arrays:
        raise MessageError(
            Reason.BAD_FIELD,
            "a tensor is named 'version', which is the name of a model's version",
            field=_VERSION,
            hint="rename the tensor",
        )
    return Model(_decoded({name: arrays[name] for name in header.tensors}), header.version)


def _decoded(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise TensorError(
                Reason.BAD_FIELD,
                f"tensor {name[:80]!r} holds {str(array.dtype)[:80]}, not numbers for float32",
                field=name[:80] if name.isprintable() else "",
            )
    return decode_tensors(arrays, "model")


def _version(array: NDArray[Any]) -> int:
    if array.ndim == 0 and array.dtype.kind in "iu" and 0 <= int(array) <= MAX_VERSION:
        return int(array)
    raise MessageError(
        Reason.BAD_FIELD,
        "the array 'version' is not one whole number",
        field=_VERSION,
        hint="leave it out, or give it as 0-d int64",
    )


def _unreadable(form: str, why: str) -> MessageError:
    return MessageError(
        Reason.UNDECODABLE, f"the {form} file cannot be read: {printable(why)[:300]}"
    )
