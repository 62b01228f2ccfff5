"""Sums of weighted rows: in C where the package was built with it, otherwise in numpy.

Either way each sum takes one product after the other, in the order of the rows, and no operation
but a float64 product and a float64 sum: the same bits with and without C, and on every processor.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_COLUMNS: Final = 16_384  # of numpy's blocks: sums and products of one stay in the cache
_GATHERED: Final = (
    4_096  # rows up to here are copied together: that costs less than their addresses
)

Sum = Callable[[NDArray[np.float64], Sequence[NDArray[np.float32]], Sequence[int]], None]


def sum_in_numpy(
    total: NDArray[np.float64], rows: Sequence[NDArray[np.float32]], weights: Sequence[int]
) -> None:
    """``total[i] += weights[r] · rows[r][i]`` for one r after the other; ``total`` in place.

    ``total``: [size], contiguous; ``rows``: [size] each, with a weight each.
    """
    product = np.empty(min(total.size, _COLUMNS))
    for start in range(0, total.size, _COLUMNS):
        part = total[start : start + _COLUMNS]
        for row, weight in zip(rows, weights, strict=True):
            products = product[: part.size]
            products[:] = row[start : start + _COLUMNS]
            products *= weight
            part += products


def sum_in_c() -> Sum | None:
    """The same in C; None where the package was installed without (docs/performance.md)."""
    spec = importlib.util.find_spec("propeller_fl.learn._weighted_sum_c")
    if spec is None or spec.origin is None:
        return None
    add = ctypes.CDLL(spec.origin).propeller_fl_add_weighted
    add.restype = None
    add.argtypes = [*3 * [ctypes.c_void_p], *2 * [ctypes.c_size_t]]

    def total_of(
        total: NDArray[np.float64], rows: Sequence[NDArray[np.float32]], weights: Sequence[int]
    ) -> None:
        count, size = len(rows), total.size
        if size <= _GATHERED:
            gathered = np.concatenate(rows, dtype=np.float32)
            first = gathered.ctypes.data
            addresses = first + 4 * size * np.arange(count, dtype=np.uintp)
        else:
            rows = [np.ascontiguousarray(row, np.float32) for row in rows]
            addresses = np.array([row.ctypes.data for row in rows], np.uintp)
        factors = np.array(weights, np.float64)
        add(total.ctypes.data, addresses.ctypes.data, factors.ctypes.data, count, size)

    return total_of


add_weighted: Final[Sum] = sum_in_c() or sum_in_numpy
"""The faster of both that is at hand."""
