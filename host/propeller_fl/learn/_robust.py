"""Strategies that hold against some updates that are wrong, by accident or on purpose.

None of them looks at the number of samples to choose: whoever sends a wrong update can lie about
that as well. Median and trimmed mean by coordinate: Yin et al., "Byzantine-Robust Distributed
Learning: Towards Optimal Statistical Rates", ICML 2018. Krum and multi-Krum: Blanchard et al.,
"Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import StrategyError
from propeller_fl.learn._mean import WeightedMean
from propeller_fl.learn._strategy import (
    Aggregate,
    State,
    Strategy,
    Updates,
    Vector,
    integer,
    number,
    refuse_counts,
)

MAX_KRUM: Final = 1000
"""Updates that Krum compares, each with each."""


@dataclass(frozen=True)
class Median(Strategy):
    """The median of each parameter; of an even number of updates the mean of the middle two."""

    by_columns: ClassVar[bool] = True

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        count = len(updates.weights)
        return Aggregate(_middle(base.size, updates, (count - 1) // 2))


@dataclass(frozen=True)
class TrimmedMean(Strategy):
    """The mean of each parameter, unweighted, without the ``cut`` share (rounded down) of the
    lowest and of the highest values: of fewer than ``1 / cut`` updates nothing is cut."""

    by_columns: ClassVar[bool] = True

    cut: float = number(0.2, least=0, below=0.5)

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        return Aggregate(_middle(base.size, updates, int(self.cut * len(updates.weights))))


@dataclass(frozen=True)
class Krum(Strategy):
    """The one update whose ``n - f - 2`` nearest others are nearest to it, by the sum of squared
    distances; up to ``f`` of ``n`` may be wrong."""

    f: int = integer(1, least=0, most=MAX_KRUM)

    def check_counts(self, fewest: int, most: int) -> None:
        refuse_counts(fewest, 2 * self.f + 3, f"Krum with f = {self.f}")
        if most > MAX_KRUM:
            raise StrategyError(
                f"the round may end with {most} updates, and each is compared with each",
                hint=f"at most {MAX_KRUM} as k_of_n",
            )

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        best = self._ranked(updates)[0]
        return Aggregate(next(itertools.islice(updates.vectors(), best, None)))

    def _ranked(self, updates: Updates) -> list[int]:
        """Positions of the updates, best first; of equals the first comes first."""
        count = len(updates.weights)
        self.check_counts(count, count)
        distances = _squared_distances(updates, count)
        np.fill_diagonal(distances, np.inf)
        distances.sort(axis=1)
        scores = distances[:, : count - self.f - 2].sum(axis=1)
        return [int(index) for index in np.argsort(scores, kind="stable")]


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean, weighted by samples, of the ``m`` updates that Krum ranks first."""

    m: int = integer(2, least=1, most=MAX_KRUM)

    def check_counts(self, fewest: int, most: int) -> None:
        super().check_counts(fewest, most)
        why = f"multi-Krum with f = {self.f} and m = {self.m}"
        refuse_counts(fewest, self.m + self.f + 2, why)

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        best = set(self._ranked(updates)[: self.m])
        mean = WeightedMean(base.size)
        both = zip(updates.vectors(), updates.weights, strict=True)
        for position, (vector, weight) in enumerate(both):
            if position in best:
                mean.add(vector, weight)
        return Aggregate(mean.result())


def _middle(size: int, updates: Updates, cut: int) -> NDArray[np.float64]:
    """The mean of each column without its ``cut`` lowest and ``cut`` highest values."""
    found = np.empty(size)
    for columns, block in updates.blocks():
        count = len(block)
        block.sort(axis=0)
        found[columns] = block[cut : count - cut].mean(axis=0, dtype=np.float64)
    return found


def _squared_distances(updates: Updates, count: int) -> NDArray[np.float64]:
    """[count, count]. From differences, not from products: two updates that are the same have
    distance 0, and ``[i, j]`` has the very bits of ``[j, i]``."""
    total = np.zeros((count, count))
    for _, block in updates.blocks():
        exact = block.astype(np.float64)
        for i in range(count - 1):
            apart = exact[i + 1 :] - exact[i]
            total[i, i + 1 :] += np.einsum("ij,ij->i", apart, apart)
    return total + total.T
