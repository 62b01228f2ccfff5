"""The weighted mean of updates, one at a time, in memory for one model.

FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, algorithm 1: each update counts by its number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.learn._weighted_sum import add_weighted

_COLUMNS: Final = 16_384  # of a block of the division, which needs no second vector of float64

# Rows that wait, by the parameters of each: a call costs as much as hundreds of parameters, so that
# the smallest wait for the most; of the largest few are held.
_SMALL: Final = 1_024
_SMALL_ROWS: Final = 256
_HELD: Final = 65_536  # parameters in all rows that wait
_ROWS: Final = 8  # and at least so many


class WeightedMean:
    """Accumulates ``Σ weight · vector`` in float64 and divides once.

    Each parameter is summed on its own, one update after the other: a mean of some columns has the
    bits that they have in the mean of the whole. The caller fixes the order (by proplet id), so
    that the result does not depend on the order in which updates arrived. O(size) memory, whatever
    the number of updates: the sums, and vectors that wait to be added in one pass: 256 KiB, or
    eight, or 256 of at most 1,024 numbers.
    """

    def __init__(self, size: int) -> None:
        self._shape = (size,)
        self._sum = np.zeros(size, np.float64)
        self._rows: list[NDArray[np.float32]] = []
        self._weights: list[int] = []
        self._height = _SMALL_ROWS if size <= _SMALL else max(_ROWS, _HELD // size)
        self._weight = 0
        self._folded = 0

    @property
    def count(self) -> int:
        """How many vectors were added."""
        return self._folded + len(self._rows)

    @property
    def total_weight(self) -> int:
        """The sum of the weights so far, exact."""
        return self._weight + sum(self._weights)

    def add(self, vector: NDArray[np.float32], weight: int) -> None:
        """Add one float32 vector of the size given at the start, with a positive weight.

        It is copied if it can be written to; otherwise it must stay as it is until ``result``.
        Raises :class:`ValueError` for another size or weight.
        """
        if vector.shape != self._shape:
            raise ValueError(f"a vector of shape {vector.shape}, not {self._shape}")
        if weight <= 0:
            raise ValueError(f"a weight of {weight}")
        self._rows.append(vector.copy() if vector.flags.writeable else vector)
        self._weights.append(weight)
        if len(self._rows) == self._height:
            self._fold()

    def result(self) -> NDArray[np.float32]:
        """The mean as float32 of what was added; more may be added afterwards.

        Raises :class:`ValueError` when nothing was added.
        """
        if self.count == 0:
            raise ValueError("the mean of no updates")
        self._fold()
        mean = np.empty(self._shape, np.float32)
        quotient = np.empty(min(mean.size, _COLUMNS))
        for start in range(0, mean.size, _COLUMNS):
            total = self._sum[start : start + _COLUMNS]
            np.divide(total, self._weight, out=quotient[: total.size])
            mean[start : start + _COLUMNS] = quotient[: total.size]
        return mean

    def _fold(self) -> None:
        """Take the rows that wait into the sum."""
        if self._rows:
            add_weighted(self._sum, self._rows, self._weights)
            self._weight += sum(self._weights)
            self._folded += len(self._rows)
            self._rows.clear()
            self._weights.clear()


def mean_metrics(reports: Iterable[tuple[Mapping[str, float], int]]) -> dict[str, float]:
    """The mean of each metric over those who reported it, weighted by their samples.

    A metric whose weighted sum leaves float64 has no mean worth telling and is left out.
    """
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}
    for metrics, weight in reports:
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value * weight
            weights[name] = weights.get(name, 0) + weight
    means = {name: sums[name] / weights[name] for name in sums}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
