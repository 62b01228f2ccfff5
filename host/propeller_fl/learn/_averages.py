"""Strategies that rest on the mean weighted by the number of samples.

FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017. FedProx: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys
2020. FedAvgM: Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", 2019. FedAdagrad, FedAdam, FedYogi: Reddi et al., "Adaptive
Federated Optimization", ICLR 2021, algorithm 2; numbers as in Flower 1.42, which begins with v = 0
and corrects Adam's bias.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

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
    mean_change,
    number,
)
from propeller_fl.wire import Scalar

_MAX_LR = 1000

Wide = NDArray[np.float64]
Step = tuple[dict[str, Wide], Wide]


@dataclass(frozen=True)
class FedAvg(Strategy):
    """The mean of the updates, weighted by their number of samples."""

    by_columns: ClassVar[bool] = True
    of_mean: ClassVar[bool] = True

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        mean = WeightedMean(base.size)
        for vector, weight in zip(updates.vectors(), updates.weights, strict=True):
            mean.add(vector, weight)
        return Aggregate(mean.result())


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg, and ``mu/2 · |model - base|²`` added to what each proplet minimises."""

    mu: float = number(0.01, least=0, most=1000)

    def hyperparams(self, given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        if given.get("mu", self.mu) != self.mu:
            raise StrategyError(
                f"hyperparams.mu is {given['mu']} and strategy_args.mu is {self.mu:g}",
                hint="leave mu to strategy_args",
            )
        return {"mu": self.mu}


@dataclass(frozen=True)
class FedAvgM(Strategy):
    """A server step with momentum: ``velocity = momentum · velocity + change``, where the change
    is FedAvg's; the model moves by ``lr · velocity``."""

    of_mean: ClassVar[bool] = True

    lr: float = number(1.0, above=0, most=_MAX_LR)
    momentum: float = number(0.9, least=0, below=1)

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        velocity = mean_change(base, updates)
        if "velocity" in state.arrays:
            velocity += self.momentum * state.arrays["velocity"]
        return Aggregate(base + self.lr * velocity, State({"velocity": velocity}))


@dataclass(frozen=True)
class _Adaptive(Strategy):
    """A server step that is smaller where changes have been large:
    ``lr · momentum / (sqrt(square) + tau)``. Subclasses say how the two are remembered."""

    of_mean: ClassVar[bool] = True

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        change = mean_change(base, updates)
        square = state.arrays.get("square")
        if square is None:
            square = np.zeros(base.size)
        rounds = state.numbers.get("rounds", 0.0) + 1.0
        after, step = self._step(change, state.arrays.get("momentum"), square, rounds)
        return Aggregate(base + step, State(after, {"rounds": rounds}))

    @abstractmethod
    def _step(self, change: Wide, momentum: Wide | None, square: Wide, rounds: float) -> Step:
        """What is to be remembered, and what to add to the model."""


@dataclass(frozen=True)
class FedAdagrad(_Adaptive):
    """``square`` is the sum of all squared changes so far."""

    lr: float = number(0.1, above=0, most=_MAX_LR)
    tau: float = number(1e-3, above=0, most=1)

    def _step(self, change: Wide, momentum: Wide | None, square: Wide, rounds: float) -> Step:
        square = square + change * change
        return {"square": square}, self.lr * change / (np.sqrt(square) + self.tau)


@dataclass(frozen=True)
class FedAdam(_Adaptive):
    """``momentum`` and ``square`` are means that fade; the step is corrected for their start."""

    lr: float = number(0.1, above=0, most=_MAX_LR)
    beta1: float = number(0.9, least=0, below=1)
    beta2: float = number(0.99, least=0, below=1)
    tau: float = number(1e-3, above=0, most=1)

    def _step(self, change: Wide, momentum: Wide | None, square: Wide, rounds: float) -> Step:
        momentum = _faded(momentum, change, self.beta1)
        square = self.beta2 * square + (1 - self.beta2) * change * change
        exponent = rounds + 1  # as Flower counts
        lr = self.lr * math.sqrt(1 - self.beta2**exponent) / (1 - self.beta1**exponent)
        step = lr * momentum / (np.sqrt(square) + self.tau)
        return {"momentum": momentum, "square": square}, step


@dataclass(frozen=True)
class FedYogi(_Adaptive):
    """As FedAdam, but ``square`` moves towards a squared change by a step of the change's own
    size, so that it does not forget large ones all at once."""

    lr: float = number(0.01, above=0, most=_MAX_LR)
    beta1: float = number(0.9, least=0, below=1)
    beta2: float = number(0.99, least=0, below=1)
    tau: float = number(1e-3, above=0, most=1)

    def _step(self, change: Wide, momentum: Wide | None, square: Wide, rounds: float) -> Step:
        momentum = _faded(momentum, change, self.beta1)
        squared = change * change
        square = square - (1 - self.beta2) * squared * np.sign(square - squared)
        step = self.lr * momentum / (np.sqrt(square) + self.tau)
        return {"momentum": momentum, "square": square}, step


def _faded(old: Wide | None, new: Wide, beta: float) -> Wide:
    return (1 - beta) * new if old is None else beta * old + (1 - beta) * new
