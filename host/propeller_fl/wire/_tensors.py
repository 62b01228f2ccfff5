"""Named arrays: the layer between a document on the wire and the mathematics.

A model is an ordered map ``name → float32 array`` of any rank. ``decode_tensors`` takes whatever a
codec produced (nested lists from JSON, typed arrays from CBOR) and refuses what is not one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import TensorError
from propeller_fl.wire._reasons import Reason

Tensor = NDArray[np.float32]
Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

MAX_NAME_CHARS: Final = 128
MAX_RANK: Final = 8

_FLOAT32: Final = np.dtype(np.float32)
_NUMERIC: Final = frozenset((int, float, list, np.ndarray))


def decode_tensors(value: Any, field: str, *, empty: bool = False) -> Tensors:
    """Turn a decoded map into float32 arrays, in its own order.

    Raises :class:`TensorError` naming the tensor for ragged lists, anything that is not a number,
    NaN, infinity, numbers too large for float32, and arrays without elements (which JSON cannot
    tell apart); and, unless ``empty``, a map of none.
    """
    if not isinstance(value, dict) or not (value or empty):
        raise TensorError(
            Reason.BAD_FIELD, f"{field} is not a map of tensors", field=field, hint="name → array"
        )
    return {
        check_name(name, field): _tensor(item, f"{field}.{name}") for name, item in value.items()
    }


def shapes_of(tensors: Mapping[str, NDArray[Any]]) -> Shapes:
    """The shape of each tensor, in order."""
    return {name: array.shape for name, array in tensors.items()}


def check_shapes(
    actual: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise :class:`TensorError` unless both hold the same names with the same shapes."""
    if actual == expected:  # nearly always, and one step
        return
    for name, shape in expected.items():
        if name not in actual:
            raise TensorError(Reason.MISSING_TENSOR, f"tensor {name!r} is missing", field=name)
        if actual[name] != shape:
            raise TensorError(
                Reason.WRONG_SHAPE,
                f"tensor {name!r} has shape {list(actual[name])}, the model has {list(shape)}",
                field=name,
            )
    for name in actual:
        if name not in expected:
            raise TensorError(
                Reason.EXTRA_TENSOR, f"tensor {name[:80]!r} is not in the model", field=name[:80]
            )


def size_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many parameters there are in all."""
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())


def flatten(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """One float32 vector of all tensors, in the order of ``shapes``, row-major."""
    if not shapes:
        return np.zeros(0, np.float32)
    return np.concatenate([np.asarray(tensors[name], np.float32).ravel() for name in shapes])


def unflatten(vector: NDArray[Any], shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """Undo :func:`flatten`; the tensors are float32 copies."""
    tensors: Tensors = {}
    start = 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape, dtype=np.int64))
        tensors[name] = vector[start:stop].astype(np.float32).reshape(shape)
        start = stop
    if start != vector.size:
        raise ValueError(f"a vector of {vector.size} does not fill tensors of {start}")
    return tensors


def check_name(name: Any, field: str) -> str:
    """Return ``name`` if a tensor may be called so; raise :class:`TensorError` if not."""
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and name.isprintable():
        return name
    raise TensorError(
        Reason.BAD_FIELD,
        f"{field} has a tensor named {str(name)[:40]!r}",
        field=field,
        hint=f"1 to {MAX_NAME_CHARS} printable characters",
    )


def _tensor(value: Any, field: str) -> Tensor:
    array = _array(value, field)
    if array.ndim > MAX_RANK:
        raise TensorError(Reason.BAD_FIELD, f"{field} has rank {array.ndim}", field=field)
    if array.size == 0:
        raise TensorError(Reason.BAD_FIELD, f"{field} has no elements", field=field)
    if array.dtype == _FLOAT32 and array.flags.c_contiguous:
        tensor = array
    else:
        with np.errstate(over="ignore"):  # what overflows is found, and refused, as an infinity
            tensor = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if not _all_finite(tensor):
        raise TensorError(
            Reason.NOT_FINITE, f"{field} holds NaN, infinity or more than float32 can", field=field
        )
    return tensor


def _all_finite(tensor: Tensor) -> bool:
    """A finite sum of squares proves that every element is; one that is not proves nothing.

    ``vdot`` says nothing of an overflow, so that no warning need be turned off, which takes longer
    than to look through a small array.
    """
    flat = tensor.reshape(-1)
    return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(tensor).all())


def _array(value: Any, field: str) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if _is_numeric(value):
        try:
            array = np.array(value)
        except (ValueError, OverflowError, RecursionError):  # ragged, or deeper than numpy goes
            array = np.array(None)
        if array.dtype.kind in "iuf":
            return array
        if all(type(item) is int for item in array.flat):
            return _from_large_integers(array, field)
    raise TensorError(
        Reason.BAD_FIELD,
        f"{field} is not a number or a rectangular array of numbers",
        field=field,
    )


def _is_numeric(value: Any) -> bool:
    """Whether there are but numbers in lists. numpy must see nothing else: it reads booleans as
    numbers, and makes room for every text of a list as for its longest."""
    pending = [[value]]
    while pending:
        values = pending.pop()
        kinds = set(map(type, values))
        if not kinds <= _NUMERIC:
            return False
        if list in kinds:
            pending.extend(item for item in values if type(item) is list)
    return True


def _from_large_integers(array: NDArray[Any], field: str) -> NDArray[Any]:
    """Beyond 64 bits numpy leaves whole numbers alone; some writers give 1e20 as one."""
    try:
        return array.astype(np.float64)
    except OverflowError:
        raise TensorError(
            Reason.NOT_FINITE, f"{field} holds more than float32 can", field=field
        ) from None
