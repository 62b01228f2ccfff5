"""Differences to a base model in whole numbers, as ``int8-delta`` updates carry them.

A tensor is ``scale * q`` away from the base model's, with one float32 ``scale`` and whole numbers
``q`` from -127 to 127. In a document it is ``[scale, dimensions, packed]``, ``packed`` a typed
array of uint8. Its numbers, row-major, are made non-negative, 0, -1, 1, -2, … → 0, 1, 2, 3, …, and
written in Rice's code (Rice and Plaunt 1971), in two parts, so that numpy can take each as a whole:

1. the lowest four bits of each number, two numbers a byte, the first in the byte's low half, and a
   half of zeros at the end of an odd number of them;
2. for each number, as many 0 bits as the rest of it says and a 1; bytes are filled from their
   lowest bit on, the last one with zeros.

Writers take the largest magnitude / 127 as the scale, or the mean magnitude / 12 if that is more.
The mean of what is coded is then at most 25, which bounds the size whatever there is to code:
6.57 bits a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import TensorError
from propeller_fl.wire._fields import shown
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._tensors import MAX_RANK, Tensor

_MOST: Final = 127
_MEAN: Final = 12
_LEAST: Final = np.float32(2.0**-100)  # less than this counts as no difference
_LOW_BITS: Final = 4
_LARGEST_CODE: Final = 2 * _MOST
_MAX_DIM: Final = 1 << 31
_MAX_FLOAT32: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """A tensor's difference to the base model's: ``scale`` times whole numbers, still packed.

    ``shape`` is what the sender says. Nothing is unpacked before the caller has compared it with
    the base model's, so that a few bytes cannot ask for much memory.
    """

    scale: float
    shape: tuple[int, ...]
    packed: NDArray[np.uint8] = field(repr=False)

    @classmethod
    def parse(cls, value: Any, name: str) -> Delta:
        """Read ``[scale, dimensions, packed]`` of the tensor ``name`` (for errors).

        Raises :class:`TensorError`.
        """
        match value:
            case [float(scale), list(dims), np.ndarray() as packed] if (
                packed.dtype == np.uint8
                and packed.ndim == 1
                and len(dims) <= MAX_RANK
                and all(type(size) is int and 1 <= size < _MAX_DIM for size in dims)
            ):
                pass
            case _:
                raise _bad(name, "is no [scale, dimensions, typed array of uint8]")
        if not 0 <= scale <= _MAX_FLOAT32:
            raise _not_finite(name, "has a scale that is negative or not a float32")
        found = cls(float(np.float32(scale)), tuple(dims), packed)
        least, most = _packed_size(found.size, 0), _packed_size(found.size, _LARGEST_CODE >> 4)
        if not least <= packed.size <= most:
            raise _bad(name, f"has {packed.size} bytes for {found.size} numbers")
        return found

    @classmethod
    def between(cls, value: Tensor, base: Tensor) -> Delta:
        """What a client writes for ``value`` trained from ``base``: the same bytes as the SDK.

        All is in float32, sums from the first number to the last. Raises ``OverflowError`` where
        that does not hold a difference, or their sum; such a tensor is sent as it is.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            delta = np.asarray(value - base, np.float32).ravel()
            magnitudes = np.abs(delta)
            mean = np.cumsum(magnitudes, dtype=np.float32)[-1] / np.float32(_MEAN * delta.size)
            scale = max(np.max(magnitudes, initial=_LEAST) / np.float32(_MOST), mean)
        if not np.isfinite(mean):
            raise OverflowError("the difference is more than float32 holds")
        numbers = np.rint(delta / scale).astype(np.int64)
        codes = np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)
        return cls(float(scale), np.shape(value), _pack(codes))

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    def document(self) -> list[Any]:
        """What :meth:`parse` reads, for ``encode_document``."""
        return [np.array(self.scale, np.float32), list(self.shape), self.packed]

    def numbers(self, name: str) -> NDArray[np.int8]:
        """The whole numbers, of ``shape``.

        Raises :class:`TensorError` when ``packed`` does not hold exactly so many of them.
        """
        codes = self._codes(name)
        if codes.max() > _LARGEST_CODE:
            raise _bad(name, f"holds a number beyond -{_MOST} to {_MOST}")
        halves = (codes >> 1).astype(np.int8)
        return np.where(codes & 1, ~halves, halves).reshape(self.shape)

    def added_to(self, base: Tensor, name: str) -> Tensor:
        """``base + scale * numbers``: a product and a sum, each rounded to float32.

        Raises :class:`TensorError`, also when the sum is more than float32 holds.
        """
        with np.errstate(over="ignore"):
            change = np.float32(self.scale) * self.numbers(name).astype(np.float32)
            found: Tensor = np.asarray(base + change, np.float32)
        if not np.isfinite(found).all():
            raise _not_finite(name, "added to the base model is more than float32 can hold")
        return found

    def _codes(self, name: str) -> NDArray[np.int64]:
        halves = (self.size + 1) // 2
        rest = np.unpackbits(self.packed[halves:], bitorder="little")
        ends = np.flatnonzero(rest)
        if ends.size != self.size or rest.size - int(ends[-1]) > 8:
            raise _bad(name, f"does not hold {self.size} numbers")
        low = np.empty((halves, 2), np.uint8)
        np.bitwise_and(self.packed[:halves], 15, out=low[:, 0])
        np.right_shift(self.packed[:halves], 4, out=low[:, 1])
        codes: NDArray[np.int64] = (np.diff(ends, prepend=-1) - 1) << _LOW_BITS
        return codes | low.ravel()[: self.size]


def is_delta(value: Any) -> bool:
    """Whether a member of an update is meant as a :class:`Delta`: no list of numbers ends so."""
    return isinstance(value, list) and len(value) == 3 and isinstance(value[2], np.ndarray)


def _packed_size(count: int, rest: int) -> int:
    """The bytes of ``count`` numbers of which so much is left without the lowest bits."""
    return (count + 1) // 2 + (count * (rest + 1) + 7) // 8


def _pack(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    low = np.append(codes & 15, np.zeros(codes.size % 2, np.int64)).reshape(-1, 2)
    ends = np.cumsum((codes >> _LOW_BITS) + 1)
    rest = np.zeros(int(ends[-1]), np.uint8)
    rest[ends - 1] = 1
    return np.concatenate(
        [(low[:, 0] | low[:, 1] << 4).astype(np.uint8), np.packbits(rest, bitorder="little")]
    )


def _bad(name: str, what: str) -> TensorError:
    return TensorError(Reason.BAD_FIELD, f"{shown(name)} {what}", field=shown(name))


def _not_finite(name: str, what: str) -> TensorError:
    return TensorError(Reason.NOT_FINITE, f"{shown(name)} {what}", field=shown(name))
