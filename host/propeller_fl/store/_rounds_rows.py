"""What goes into the coordinator's database and comes out of it, but for rounds themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from propeller_fl.rounds import UpdateFacts
from propeller_fl.wire import Phase, Tensor


class NewUpdate(NamedTuple):
    """An accepted update that is to be kept; ``vector`` is float32, one-dimensional."""

    facts: UpdateFacts
    metrics: Mapping[str, float]
    vector: Tensor


@dataclass(frozen=True, slots=True)
class KeptUpdate:
    """An accepted update as it goes into the aggregate; ``vector`` is float32, one-dimensional."""

    proplet_id: str
    num_samples: int
    metrics: Mapping[str, float]
    vector: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class KeptState:
    """What a strategy remembers with a model: float64 arrays of one dimension, and numbers."""

    arrays: Mapping[str, NDArray[np.float64]]
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Owed:
    """A message that was promised and is not known to have been taken by the broker."""

    id: int
    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One thing that happened in a round."""

    at_s: float
    event: str
    proplet_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KnownRound:
    """Whose an id is. ``pruned``: this is all that is known of it any more. REFUSED is an id that
    was stopped before it was a round's: ``start_sha256`` is empty, and it never will be one's."""

    start_sha256: str
    phase: Phase
    pruned: bool
