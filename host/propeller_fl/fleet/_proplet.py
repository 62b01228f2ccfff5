"""A simulated proplet as a pure machine: the real proplet's, on a bad network and a slow device.

Tasks are taken, answered, sent again and reported by the very machine that runs on a desktop
(``proplet.Tasks``). What is put around it here: a module that takes its time, messages that are
lost, and a device that says no more in this round.
"""

from __future__ import annotations

from dataclasses import dataclass

from propeller_fl.fleet._profiles import is_lost
from propeller_fl.proplet import Tasks, events


@dataclass(frozen=True, slots=True)
class Fate:
    """What one round has in store for a proplet."""

    drops: bool = False
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Train:
    """Have the module run, or a recording stand in for it, and answer with Ran ``after_s`` from
    now."""

    run: events.Run
    after_s: float


@dataclass(frozen=True, slots=True)
class Lose:
    """The update is gone on its way: answer with Taken, as if it had been sent."""

    task_id: str


SimulatedEffect = events.Effect | Train | Lose


class SimulatedProplet:
    """``loss`` is the chance of each update, and each answer, to be lost."""

    def __init__(self, proplet_id: str, resend_after_s: float, loss: float, seed: int) -> None:
        self._id = proplet_id
        self._tasks = Tasks(proplet_id, resend_after_s)
        self._loss = loss
        self._seed = seed
        self._fate = Fate()
        self._messages = 0  # updates sent and answers heard
        self.lost_updates = 0
        self.lost_answers = 0

    @property
    def wants(self) -> frozenset[events.Want]:
        """What it needs to hear now, and the end of each round it has a task in."""
        return self._tasks.wants

    def meet(self, fate: Fate) -> None:
        """A round begins."""
        self._fate = fate

    def handle(self, event: events.Event) -> list[SimulatedEffect]:
        """Let ``event`` happen."""
        if isinstance(event, events.Answered) and self._loses():
            self.lost_answers += 1
            return []
        effects = [self._bent(effect) for effect in self._tasks.handle(event)]
        return [effect for effect in effects if effect is not None]

    def _bent(self, effect: events.Effect) -> SimulatedEffect | None:
        match effect:
            case events.Run():
                return None if self._fate.drops else Train(effect, self._fate.latency_s)
            case events.Report():
                return None if self._fate.drops else effect
            case events.SendUpdate(task_id) if self._loses():
                self.lost_updates += 1
                return Lose(task_id)
        return effect

    def _loses(self) -> bool:
        self._messages += 1
        return is_lost(self._seed, self._id, self._messages, self._loss)
