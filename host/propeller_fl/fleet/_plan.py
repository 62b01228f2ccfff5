"""What a simulated fleet is to do: who is slow, who drops out, whose module is really run. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.demo import Partition
from propeller_fl.errors import ConfigError
from propeller_fl.fleet._profiles import Floats, Spread, check_share, chosen
from propeller_fl.wire import MAX_PARTICIPANTS

MODEL: Final = "softmax:64x10"
"""What is trained, on the 8×8 digits: 650 parameters."""

IMAGE: Final = "builtin:softmax"

_SAMPLES, _WASM, _ROUND = range(3)  # streams of random numbers of one seed
_AT_ONCE: Final = Spread("fixed", (0.0,))
_ALIKE: Final = Spread("fixed", (100.0,))
_IID: Final = Partition("iid")
_MAX_LOSS: Final = 0.9  # beyond it a round is mostly waiting


@dataclass(frozen=True)
class FleetPlan:
    """All that can be varied.

    ``nodes``      of the broker: 1, or a cluster of 3 or 5 over which the sessions spread
    ``sessions``   MQTT sessions that the proplets share; 0: one each
    ``qos``        of the proplets' subscriptions; 1 makes the broker keep three queues a proplet
    ``wasm``       the share of them, at least one, whose module is really run in each round
    ``recordings`` real runs before the rounds, whose updates the others send
    ``latency``    seconds from a task's arrival until its update is ready, drawn anew each round
    ``loss``       the chance of each update, and of each answer, to be lost on its way
    ``dropout``    the share that takes its task in a round and is not heard of again in it
    ``samples``    how many samples a proplet of the rest says it has
    ``partition``  how the labels are shared out to those that are really run
    ``k``          the share of those who do not drop out that ends a round
    """

    output: Path
    proplets: int = 1_000
    rounds: int = 3
    seed: int = 0
    nodes: int = 1
    sessions: int = 0
    qos: int = 0
    wasm: float = 0.01
    recordings: int = 16
    latency: Spread = _AT_ONCE
    loss: float = 0.0
    dropout: float = 0.0
    samples: Spread = _ALIKE
    partition: Partition = _IID
    k: float = 1.0
    epochs: int = 1
    lr: float = 0.5
    timeout_s: float = 120.0
    resend_after_s: float = 5.0
    heartbeat_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.proplets <= MAX_PARTICIPANTS:
            raise ConfigError(f"{self.proplets} proplets", hint=f"1 to {MAX_PARTICIPANTS:,}")
        if self.rounds < 1 or self.recordings < 1 or self.sessions < 0 or self.qos not in (0, 1):
            raise ConfigError("rounds and recordings are at least 1, sessions 0, qos 0 or 1")
        if self.nodes not in (1, 3, 5):
            raise ConfigError(f"{self.nodes} nodes", hint="1, 3 or 5")
        if min(self.timeout_s, self.resend_after_s, self.heartbeat_s) <= 0:
            raise ConfigError("times are more than 0")
        check_share(self.wasm, "wasm")
        check_share(self.loss, "loss", most=_MAX_LOSS)
        check_share(self.dropout, "dropout")
        check_share(self.k, "k")
        if round(self.dropout * self.proplets) == self.proplets:
            raise ConfigError("everybody drops out", hint="a lower dropout")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"sim-{number}" for number in range(self.proplets))

    @property
    def session_count(self) -> int:
        return min(self.sessions or self.proplets, self.proplets)

    @cached_property
    def num_samples(self) -> NDArray[np.int64]:
        """[proplets], at least 1 each: the skew of amounts."""
        drawn = self.samples.draw(self._rng(_SAMPLES), self.proplets)
        return np.maximum(np.rint(drawn), 1).astype(np.int64)

    @cached_property
    def is_wasm(self) -> NDArray[np.bool_]:
        """[proplets], whose module is really run."""
        return chosen(self._rng(_WASM), self.proplets, max(self.wasm, 1 / self.proplets))

    def share_of(self, index: int) -> int:
        """Which of the ``recordings`` shares of the data a proplet has."""
        return index % self.recordings

    def round(self, number: int) -> RoundPlan:
        """What will happen in round ``number``, from 1 on."""
        rng = self._rng(_ROUND, number)
        drops = chosen(rng, self.proplets, self.dropout)
        left = self.proplets - int(drops.sum())
        latency_s = self.latency.draw(rng, self.proplets)
        return RoundPlan(number, drops, latency_s, max(1, round(self.k * left)))

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """``drops`` and ``latency_s`` by proplet; ``k`` updates end the round."""

    number: int
    drops: NDArray[np.bool_]
    latency_s: Floats
    k: int
