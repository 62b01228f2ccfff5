"""Time, chance and what is to happen next, in one simulated world."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass


class Crash(BaseException):
    """A process is gone, at the point it names. Nothing may catch this but who started it."""


class Violation(BaseException):
    """A promise was broken. No :class:`Exception`: what is put to the test must not handle it."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it is, until it is calm: probabilities from 0 to 1."""

    loss: float  # of a message to anyone, by the broker
    duplication: float
    longest_delay_s: float
    crash: float  # of the coordinator, in one turn
    store_failure: float  # in one turn
    disconnect: float  # of the coordinator from the broker, in one turn
    proplet_crash: float  # in one heartbeat
    clock_set: float  # the coordinator's, in one restart
    amnesia: float  # of the broker, when the coordinator's connection ends

    @staticmethod
    def of(rng: random.Random) -> Weather:
        """Some schedules are quiet, some have one kind of fault, some have all."""
        worst = Weather(0.2, 0.4, 3.0, 0.6, 0.5, 0.3, 0.3, 0.3, 0.3)
        values = [
            getattr(worst, name) * rng.random() if rng.random() < 0.7 else 0.0
            for name in Weather.__slots__
        ]
        return Weather(*values)


class World:
    """A schedule is all that follows from its seed."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.rng = random.Random(seed)
        self.weather = Weather.of(self.rng)
        self.now_s = 1_000_000_000.0
        self.calm = False
        self.lines: list[str] = []
        self._tracing = tracing
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, delay_s: float, event: Callable[[], None]) -> None:
        """Let ``event`` happen so many seconds from now."""
        self.at_time(self.now_s + delay_s, event)

    def at_time(self, at_s: float, event: Callable[[], None]) -> None:
        """Let ``event`` happen then, after what was to happen then already."""
        self._number += 1
        heapq.heappush(self._events, (at_s, self._number, event))

    def run(self, ended: Callable[[], bool], latest_s: float) -> bool:
        """Let things happen until ``ended``; false if ``latest_s`` came first."""
        while self._events and self._events[0][0] <= latest_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            if ended():
                return True
        return ended()

    def happens(self, probability: float) -> bool:
        """Whether a fault of this probability strikes now. Never when it is calm."""
        return not self.calm and probability > 0.0 and self.rng.random() < probability

    def delay_s(self) -> float:
        """How long a message is under way: short as a rule."""
        if self.calm or self.rng.random() < 0.7:
            return 0.001 + self.rng.random() * 0.01
        return self.rng.random() * self.weather.longest_delay_s

    def note(self, text: str, *values: object) -> None:
        """A line of the trace, ``text % values``."""
        if self._tracing:
            self.lines.append(f"{self.now_s - 1_000_000_000.0:9.4f}  {text % values}")
