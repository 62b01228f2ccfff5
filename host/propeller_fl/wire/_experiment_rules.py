"""The rules of an experiment: who takes part, how hyperparameters change, when it is over.

Each is a part of ExperimentStart, read from its mapping and written as one again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._fields import Fields, shown
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._round_messages import MAX_PARTICIPANTS
from propeller_fl.wire._topics import check_id

MAX_ROUNDS: Final = 100_000
"""Most rounds that an experiment trains."""

_MAX_STEPS: Final = 256
_MAX_TAGS: Final = 32


@dataclass(frozen=True, slots=True)
class Selection:
    """Who takes part in a round.

    ``ids``               these, alive or not, and no rule; else whoever is alive and
    ``tags``              has introduced itself with all of these metadata,
    ``min_memory_bytes``  and with at least so much memory; of them
    ``fraction``          this share, rounded up, drawn anew for each round,
    ``at_least``          but no fewer than so many: with fewer alive, the round waits for more.
    ``at_most``           0: all.
    ``k_fraction``        share of the participants whose updates end a round early
    ``min_updates``       fewest that make a model at the deadline
    """

    ids: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    min_memory_bytes: int = 0
    fraction: float = 1.0
    at_least: int = 1
    at_most: int = 0
    k_fraction: float = 1.0
    min_updates: int = 1

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Selection:
        """Raises :class:`MessageError`."""
        fields = _fields(document, "participants", cls)
        found = cls(
            ids=_ids(fields, "participants"),
            tags=_tags(fields.mapping("tags", {})),
            min_memory_bytes=fields.integer("min_memory_bytes", 0, low=0, high=2**53),
            fraction=_share(fields, "fraction"),
            at_least=fields.integer("at_least", 1, low=1, high=MAX_PARTICIPANTS),
            at_most=fields.integer("at_most", 0, low=0, high=MAX_PARTICIPANTS),
            k_fraction=_share(fields, "k_fraction"),
            min_updates=fields.integer("min_updates", 1, low=1, high=MAX_PARTICIPANTS),
        )
        if found.ids:
            found._check_ids()
        if found.at_most and found.at_most < found.needed:
            what = "at_least and min_updates, or more"
            raise bad_rule("participants.at_most", f"is {found.at_most}", what)
        return found

    def _check_ids(self) -> None:
        rule = Selection(ids=self.ids, k_fraction=self.k_fraction, min_updates=self.min_updates)
        if rule != self:
            raise bad_rule("participants", "has ids and a rule", "one of them")
        if self.min_updates > len(self.ids):
            raise bad_rule("participants.min_updates", f"is {self.min_updates}", "at most all ids")

    def document(self) -> dict[str, Any]:
        return {
            "ids": list(self.ids),
            "tags": dict(sorted(self.tags.items())),
            "min_memory_bytes": self.min_memory_bytes,
            "fraction": self.fraction,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "k_fraction": self.k_fraction,
            "min_updates": self.min_updates,
        }

    def takes(self, metadata: Mapping[str, str]) -> bool:
        """Whether a proplet that introduced itself with these may take part."""
        memory = metadata.get("memory_bytes", "")
        has_memory = memory.isdecimal() and int(memory[:20]) >= self.min_memory_bytes
        return (has_memory or not self.min_memory_bytes) and all(
            metadata.get(name) == value for name, value in self.tags.items()
        )

    @property
    def needed(self) -> int:
        """Fewest that a round begins with."""
        return max(self.at_least, self.min_updates)

    def count(self, alive: int) -> int:
        """How many of those that may are taken; 0: too few of them are there."""
        if alive < self.needed:
            return 0
        wanted = max(self.needed, math.ceil(self.fraction * alive))
        return min(wanted, self.at_most or wanted, MAX_PARTICIPANTS)

    def k_of(self, participants: int) -> int:
        """``k_of_n`` of a round with so many."""
        return max(1, min(participants, math.ceil(self.k_fraction * participants)))


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one number among the hyperparameters changes from round to round.

    Either ``steps``, pairs of a round and the value from then on; or times ``factor`` after every
    ``every`` rounds, down (or up) to ``limit``, if that is given. A whole number stays one where
    ``steps`` says so, and is rounded otherwise.
    """

    steps: tuple[tuple[int, float], ...] = ()
    factor: float = 1.0
    every: int = 1
    limit: float | None = None

    @classmethod
    def parse(cls, name: str, value: Any) -> Schedule:
        """Raises :class:`MessageError`."""
        where = f"schedule.{shown(name)}"
        if not isinstance(value, dict):
            raise bad_rule(where, f"is a {type(value).__name__}", "steps, or factor and every")
        fields = _fields(value, where, cls)
        found = cls(
            steps=_steps(fields.sequence("steps", []), where),
            factor=fields.number("factor", 1.0),
            every=fields.integer("every", 1, low=1, high=MAX_ROUNDS),
            limit=fields.number("limit") if fields.has("limit") else None,
        )
        if not 0 < found.factor <= 1000:
            raise bad_rule(f"{where}.factor", f"is {found.factor:g}", "more than 0")
        if bool(found.steps) == fields.has("factor"):
            raise bad_rule(where, "needs one of steps and factor", "steps = [[5, 0.1], [10, 0.01]]")
        return found

    def document(self) -> dict[str, Any]:
        if self.steps:
            return {"steps": [list(step) for step in self.steps]}
        limit = {} if self.limit is None else {"limit": self.limit}
        return {"factor": self.factor, "every": self.every, **limit}

    def value(self, base: float, number: int) -> float:
        """In round ``number``, the first being 1."""
        if self.steps:
            return next((value for at, value in reversed(self.steps) if at <= number), base)
        exponent = (number - 1) // self.every
        try:
            value = base * self.factor**exponent
        except OverflowError:
            value = math.inf
        if self.limit is not None:
            value = max(value, self.limit) if self.factor < 1 else min(value, self.limit)
        value = value if math.isfinite(value) else base
        return round(value) if isinstance(base, int) else value


class Goal(StrEnum):
    """Which values of a metric are better."""

    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class StopRules:
    """When an experiment is over; what holds first counts.

    ``rounds``        have trained, well or not
    ``target``        the metric is at least (``goal`` max) or at most (min) this
    ``patience``      it has not got better by more than ``min_delta`` for so many of its values
    ``max_failures``  so many rounds in a row have yielded nothing: then it has failed

    The metric is that of evaluations, where the experiment evaluates, else of training.
    """

    rounds: int
    metric: str = ""
    goal: Goal = Goal.MAX
    target: float | None = None
    patience: int = 0
    min_delta: float = 0.0
    max_failures: int = 3

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> StopRules:
        """Raises :class:`MessageError`."""
        fields = _fields(document, "stop", cls)
        found = cls(
            rounds=fields.integer("rounds", low=1, high=MAX_ROUNDS),
            metric=fields.text("metric", "", max_chars=128),
            goal=fields.choice("goal", Goal, Goal.MAX),
            target=fields.number("target") if fields.has("target") else None,
            patience=fields.integer("patience", 0, low=0, high=MAX_ROUNDS),
            min_delta=fields.number("min_delta", 0.0),
            max_failures=fields.integer("max_failures", 3, low=1, high=MAX_ROUNDS),
        )
        if (found.target is not None or found.patience) and not found.metric:
            raise bad_rule(
                "stop.metric", "is missing", "target and patience need one, say accuracy"
            )
        if found.min_delta < 0:
            raise bad_rule("stop.min_delta", f"is {found.min_delta:g}", "0 or more")
        return found

    def document(self) -> dict[str, Any]:
        target = {} if self.target is None else {"target": self.target}
        return {
            "rounds": self.rounds,
            "metric": self.metric,
            "goal": self.goal,
            "patience": self.patience,
            "min_delta": self.min_delta,
            "max_failures": self.max_failures,
            **target,
        }

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether ``value`` is progress."""
        if best is None:
            return True
        gain = value - best if self.goal is Goal.MAX else best - value
        return gain > self.min_delta

    def is_reached(self, value: float) -> bool:
        """Whether ``value`` is the target or better."""
        if self.target is None:
            return False
        return value >= self.target if self.goal is Goal.MAX else value <= self.target


@dataclass(frozen=True, slots=True)
class Evaluation:
    """After every ``every``-th round that trains, and the last, one that evaluates what has been
    made, on the data that its participants hold out. 0: never."""

    every: int = 0
    timeout_s: float = 0.0
    """Of such a round; 0: as those that train."""
    ids: tuple[str, ...] = ()
    """Who does it, alive or not; none: as for rounds that train."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Evaluation:
        """Raises :class:`MessageError`."""
        fields = _fields(document, "evaluate", cls)
        found = cls(
            every=fields.integer("every", 0, low=0, high=MAX_ROUNDS),
            timeout_s=fields.number("timeout_s", 0.0),
            ids=_ids(fields, "evaluate"),
        )
        if not 0 <= found.timeout_s <= 86_400:
            raise bad_rule("evaluate.timeout_s", f"is {found.timeout_s:g}", "0 to a day")
        return found

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"every": self.every, "timeout_s": self.timeout_s}
        return found | ({"ids": list(self.ids)} if self.ids else {})  # as it was before it had any

    def is_due(self, number: int, *, last: bool) -> bool:
        """After round ``number``."""
        return bool(self.every) and (last or number % self.every == 0)


def bad_rule(name: str, what: str, hint: str) -> MessageError:
    """A part of an experiment that cannot be."""
    return MessageError(Reason.BAD_FIELD, f"{name} {what}", field=name, hint=hint)


def _fields(document: Mapping[str, Any], where: str, kind: Any) -> Fields:
    known = set(kind.__dataclass_fields__)
    if unknown := sorted(set(document) - known):
        name = f"{where}.{shown(unknown[0])}"
        raise bad_rule(name, "is not known", f"one of {', '.join(sorted(known))}")
    return Fields(document)


def _ids(fields: Fields, where: str) -> tuple[str, ...]:
    ids = fields.texts("ids")
    for name in ids:
        check_id(name, f"{where}.ids")
    if len(set(ids)) < len(ids) or len(ids) > MAX_PARTICIPANTS:
        what = f"each once, at most {MAX_PARTICIPANTS}"
        raise bad_rule(f"{where}.ids", "names somebody twice, or too many", what)
    return ids


def _share(fields: Fields, name: str) -> float:
    value = fields.number(name, 1.0)
    if not 0 < value <= 1:
        raise bad_rule(f"participants.{name}", f"is {value:g}", "more than 0, at most 1")
    return value


def _tags(values: Mapping[str, Any]) -> dict[str, str]:
    if len(values) > _MAX_TAGS or not all(isinstance(value, str) for value in values.values()):
        raise bad_rule("participants.tags", "are not texts", f"at most {_MAX_TAGS} texts by name")
    return dict(values)


def _is_float(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False


def _steps(values: list[Any], where: str) -> tuple[tuple[int, float], ...]:
    steps: list[tuple[int, float]] = []
    hint = f"rising rounds with their values, [[5, 0.1], [10, 0.01]], at most {_MAX_STEPS}"
    for value in values:
        match value:
            case [int(at), int(number) | float(number)] if not isinstance(number, bool):
                if not _is_float(number) or at < 1 or (steps and at <= steps[-1][0]):
                    raise bad_rule(f"{where}.steps", "are out of order, or not finite", hint)
                steps.append((at, number))
            case _:
                raise bad_rule(f"{where}.steps", "are not pairs of numbers", hint)
    if len(steps) > _MAX_STEPS:
        raise bad_rule(f"{where}.steps", f"are {len(steps)}", hint)
    return tuple(steps)
