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

_BLOCK: Final = 32_768  # elements; a block of float64 sums and of products stays in the L2 cache


class WeightedMean:
    """Accumulates ``Σ weight · vector`` in float64 and divides once.

    The caller fixes the order (by proplet id), so that the result does not depend on the order in
    which updates arrived. O(size) memory, whatever the number of updates.
    """

    def __init__(self, size: int) -> None:
        self._sum = np.zeros(size, np.float64)
        self._product = np.empty(min(size, _BLOCK), np.float64)
        self._weight = 0
        self.count = 0

    @property
    def total_weight(self) -> int:
        """The sum of the weights so far, exact."""
        return self._weight

    def add(self, vector: NDArray[np.float32], weight: int) -> None:
        """Add one float32 vector of the size given at the start, with a positive weight.

        Raises :class:`ValueError` for another size or weight.
        """
        if vector.shape != self._sum.shape:
            raise ValueError(f"a vector of shape {vector.shape}, not {self._sum.shape}")
        if weight <= 0:
            raise ValueError(f"a weight of {weight}")
        factor = np.float64(weight)
        for start in range(0, vector.size, _BLOCK):
            block = vector[start : start + _BLOCK]
            product = self._product[: block.size]
            np.multiply(block, factor, out=product)
            self._sum[start : start + _BLOCK] += product
        self._weight += weight
        self.count += 1

    def result(self) -> NDArray[np.float32]:
        """The mean as float32. Raises :class:`ValueError` when nothing was added."""
        if self.count == 0:
            raise ValueError("the mean of no updates")
        return (self._sum / self._weight).astype(np.float32)


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
