"""What an aggregation strategy is: a few hooks on arrays, and nothing else.

A strategy has no clock, disk or socket. It is a frozen dataclass whose fields are its arguments::

    @dataclass(frozen=True)
    class Halfway(Strategy):
        share: float = number(0.5, least=0, most=1)

        def aggregate(self, base, updates, state):
            return Aggregate(base + self.share * mean_change(base, updates))
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import StrategyError
from propeller_fl.wire import Scalar

Vector = NDArray[np.float32]

_BLOCK: Final = 32_768  # elements; a block of float64 numbers stays in the L2 cache
_ARGUMENT: Final = "propeller_fl.argument"  # key of a field's metadata


class Updates(Protocol):
    """The accepted updates of a round in the order of proplet ids, as often as one likes.

    Each is a whole model as one float32 vector, in the order of the base model's tensors.
    """

    @property
    def weights(self) -> Sequence[int]:
        """The number of samples of each, at least 1."""

    @property
    def size(self) -> int:
        """The parameters of a model; a strategy that works :attr:`Strategy.by_columns` may be given
        some columns, which are fewer."""

    def vectors(self) -> Iterator[Vector]:
        """One [size] at a time; it is not to be changed."""

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Some columns of all updates at a time: which, and [count, columns]. It may be changed.
        Memory stays at some MiB whatever the size of the model."""


class HeldUpdates:
    """Updates in memory, for tests and experiments: ``vectors`` is [count, size]."""

    def __init__(self, vectors: NDArray[np.float32], weights: Sequence[int]) -> None:
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(weights):
            raise ValueError("vectors must be float32 [count, size], with a weight each")
        self._vectors = vectors
        self.weights = tuple(weights)
        self.size = vectors.shape[1]

    def vectors(self) -> Iterator[Vector]:
        return iter(self._vectors)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for start in range(0, self.size, _BLOCK):
            columns = slice(start, min(start + _BLOCK, self.size))
            yield columns, self._vectors[:, columns].copy()


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a strategy remembers from one round to the next: float64 arrays and numbers by name.

    It is kept with the model of its round. A round gets it that is based on that model, with the
    same strategy and arguments; any other begins with the empty one.
    """

    arrays: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.arrays or self.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """The new model as one vector of the base's size, of float32 or float64, and what is to be
    remembered."""

    model: NDArray[Any]
    state: State = field(default_factory=State)


class Strategy(ABC):
    """Base class of strategies: override ``aggregate``, and the other hooks where needed.

    What is returned is checked by the caller: a model or state that is not finite fails the round,
    as does any exception.
    """

    by_columns: ClassVar[bool] = False
    """Whether each parameter of the new model depends on that parameter of the updates alone, and
    on nothing else: neither on the base nor on what is remembered. Such a strategy works on models
    that travel in parts: ``aggregate`` is called once for some columns after the others, with a
    base of NaN."""

    of_mean: ClassVar[bool] = False
    """Whether it depends on the updates through their mean alone, weighted by samples. Then some of
    them may be replaced by their mean, weighted by the sum of their samples, on the way: an
    aggregator takes part in rounds of such a strategy, and in no others."""

    def check_counts(self, fewest: int, most: int) -> None:  # noqa: B027 - by default all will do
        """Refuse a round that may end with ``fewest`` to ``most`` updates where there would be no
        model, before anything is launched. Raises :class:`StrategyError`."""

    def hyperparams(self, given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Hyperparameters that the modules get beside those ``given`` by the operator.

        Raises :class:`StrategyError` when the given ones contradict.
        """
        return {}

    @abstractmethod
    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        """The model after ``base``. ``updates`` has at least one; ``state`` is empty at first.

        Raises :class:`StrategyError` when there is no such model.
        """


# --- arguments


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a strategy, as it is documented and checked."""

    kind: type[Any]
    least: float = -math.inf
    most: float = math.inf
    least_excluded: bool = False
    most_excluded: bool = False
    choices: tuple[str, ...] = ()

    def accept(self, value: Any) -> Scalar:
        """``value`` as this kind. Raises :class:`ValueError` that says what is wanted."""
        if self.kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if self.kind is int and type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not self.kind or not self._holds(value):
            raise ValueError(self.wanted)
        return value  # type: ignore[no-any-return]

    def _holds(self, value: Any) -> bool:
        if self.kind is str:
            return not self.choices or value in self.choices
        if self.kind is bool:
            return True
        above = value > self.least if self.least_excluded else value >= self.least
        below = value < self.most if self.most_excluded else value <= self.most
        return math.isfinite(value) and above and below

    @property
    def wanted(self) -> str:
        """What it takes, for an error."""
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return f"one of {', '.join(self.choices)}" if self.choices else "text"
        parts = ["a whole number" if self.kind is int else "a number"]
        if self.least > -math.inf:
            parts.append(f"{'above' if self.least_excluded else 'at least'} {self.least:g}")
        if self.most < math.inf:
            parts.append(f"{'below' if self.most_excluded else 'at most'} {self.most:g}")
        return ", ".join(parts)


def number(
    default: float,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field that takes a finite number; ``above`` and ``below`` exclude the bound itself."""
    argument = Argument(
        float,
        least if above is None else above,
        most if below is None else below,
        above is not None,
        below is not None,
    )
    return field(default=float(default), metadata={_ARGUMENT: argument})


def integer(default: int, *, least: float = -math.inf, most: float = math.inf) -> Any:
    """A field that takes a whole number."""
    return field(default=default, metadata={_ARGUMENT: Argument(int, least, most)})


def flag(default: bool) -> Any:
    """A field that takes true or false."""
    return field(default=default, metadata={_ARGUMENT: Argument(bool)})


def choice(default: str, *choices: str) -> Any:
    """A field that takes one of ``choices``, or any text where there are none."""
    return field(default=default, metadata={_ARGUMENT: Argument(str, choices=choices)})


def argument_of(metadata: Mapping[Any, Any]) -> Argument | None:
    """The argument a dataclass field describes, if it is one."""
    found = metadata.get(_ARGUMENT)
    return found if isinstance(found, Argument) else None


# --- what strategies share


def mean_change(base: Vector, updates: Updates) -> NDArray[np.float64]:
    """``Σ weight · (update - base) / Σ weight`` in float64.

    The differences are averaged and not the models: a float32 mean, less the base, would have lost
    most of its digits where the two are close, and methods that divide by its size would see it.
    Raises :class:`StrategyError` when there is no update, or one without samples.
    """
    if min(updates.weights, default=0) < 1:
        raise StrategyError("an update without samples has no part in a mean")
    total = np.zeros(base.size)
    for vector, weight in zip(updates.vectors(), updates.weights, strict=True):
        for start in range(0, base.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            change = vector[block].astype(np.float64)
            change -= base[block]
            change *= weight
            total[block] += change
    total /= sum(updates.weights)
    return total


def refuse_counts(fewest: int, needed: int, why: str) -> None:
    """Raises :class:`StrategyError` where a round could end with fewer updates than needed."""
    if fewest < needed:
        raise StrategyError(
            f"{why} needs at least {needed} updates, and the round may end with {fewest}",
            hint=f"set min_updates, and k_of_n with it, to {needed} or more",
        )
