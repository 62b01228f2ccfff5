"""What devices and networks are like, as draws from seeded generators. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import ConfigError

Floats = NDArray[np.float64]

_PARAMETERS: Final = {"fixed": 1, "uniform": 2, "lognormal": 2}
_HINT: Final = "fixed:V, uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA"


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of numbers that are not negative, as text ``fixed:V``, ``uniform:LOW:HIGH`` or
    ``lognormal:MEDIAN:SIGMA`` (sigma of the natural logarithm; 1 means that one in six has more
    than 2.7 times the median)."""

    kind: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str, what: str) -> Spread:
        """Raises :class:`ConfigError` that names ``what``."""
        kind, *rest = text.split(":")
        try:
            values = tuple(map(float, rest))
        except ValueError:
            values = ()
        fits = _PARAMETERS.get(kind) == len(values) and all(0 <= v < math.inf for v in values)
        if not fits or (kind == "uniform" and values[0] > values[1]):
            raise ConfigError(f"{what} {text!r}", hint=_HINT)
        return cls(kind, values)

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """``count`` independent draws."""
        match self.kind:
            case "uniform":
                return rng.uniform(self.values[0], self.values[1], count)
            case "lognormal":
                median, sigma = self.values
                return median * rng.lognormal(0.0, sigma, count)
            case _:
                return np.full(count, self.values[0])

    def __str__(self) -> str:
        return ":".join([self.kind, *(f"{value:g}" for value in self.values)])


def check_share(value: float, what: str, *, least: float = 0.0, most: float = 1.0) -> float:
    """A part of a whole from ``least`` to ``most``. Raises :class:`ConfigError`."""
    if not least <= value <= most:
        raise ConfigError(f"{what} is {value:g}", hint=f"{least:g} to {most:g}")
    return value


def chosen(rng: np.random.Generator, count: int, share: float) -> NDArray[np.bool_]:
    """Which of ``count`` are the ``share`` of them, rounded to a whole number of members."""
    marks = np.zeros(count, np.bool_)
    marks[rng.permutation(count)[: round(share * count)]] = True
    return marks


def is_lost(seed: int, name: str, number: int, share: float) -> bool:
    """Whether message ``number`` of those called ``name`` is lost. It hangs on the arguments alone:
    not on what came before, nor on how fast the machine is."""
    return share > 0 and random.Random(f"{seed}/{name}/{number}").random() < share
