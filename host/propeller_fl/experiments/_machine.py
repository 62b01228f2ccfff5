"""An experiment as a pure machine: what happens goes in, the next state and effects come out.

It begins rounds one after the other, each on the model that the last one made, and evaluations
between them. A round's id is made of the experiment's and its number, and all that it depends on is
in the transition that begins it: whoever has kept that may ask for the round any number of times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from propeller_fl.wire import (
    Command,
    ExperimentPhase,
    ExperimentStart,
    ExperimentStatus,
    Mode,
    Outcome,
    RoundComplete,
    RoundStart,
    Selection,
)


@dataclass(frozen=True, slots=True)
class Experiment:
    """The state. ``rounds`` have trained and ended; ``stale`` values of the metric in a row were no
    progress, and ``failures`` rounds in a row yielded nothing."""

    start: ExperimentStart
    phase: ExperimentPhase = ExperimentPhase.RUNNING
    rounds: int = 0
    under_way: RoundStart | None = None
    evaluates_next: bool = False
    model_uri: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    best_round: int = 0
    stale: int = 0
    failures: int = 0
    reason: str = ""
    detail: str = ""

    @property
    def wants_fleet(self) -> bool:
        """Whether the next round may begin, if there is somebody to take part."""
        return self.phase is ExperimentPhase.RUNNING and self.under_way is None

    def status(self) -> ExperimentStatus:
        """As it is published."""
        return ExperimentStatus(
            experiment_id=self.start.experiment_id,
            phase=self.phase,
            start_sha256=self.start.digest(),
            rounds=self.rounds,
            of_rounds=self.start.stop.rounds,
            round_id=self.under_way.round_id if self.under_way else "",
            model_uri=self.model_uri,
            metrics=self.metrics,
            evaluation=self.evaluation,
            best=self.best or 0.0,
            best_round=self.best_round,
            reason=self.reason,
            detail=self.detail,
        )


@dataclass(frozen=True, slots=True)
class FleetSeen:
    """These proplets are alive; what each introduced itself with, by id."""

    alive: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Commanded:
    """An operator's word."""

    command: Command


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round has ended, well or not."""

    complete: RoundComplete


@dataclass(frozen=True, slots=True)
class RoundFailed:
    """A round was not opened, or how it ended is not to be had any more."""

    round_id: str
    reason: str
    detail: str


Event = FleetSeen | Commanded | RoundEnded | RoundFailed


@dataclass(frozen=True, slots=True)
class BeginRound:
    """Remember this round, and ask for it until it is open."""

    start: RoundStart


@dataclass(frozen=True, slots=True)
class KeepCompletion:
    """Remember how the round under way has ended."""

    complete: RoundComplete


Effect = BeginRound | KeepCompletion


@dataclass(frozen=True, slots=True)
class Transition:
    """What comes of an event."""

    experiment: Experiment
    effects: tuple[Effect, ...] = ()


def begin(start: ExperimentStart) -> Experiment:
    """A new experiment."""
    return Experiment(start, model_uri=start.model_uri)


def restore(
    start: ExperimentStart,
    phase: ExperimentPhase,
    reason: str,
    detail: str,
    rounds: Iterable[tuple[RoundStart, RoundComplete | None]],
) -> Experiment:
    """The experiment as it was, from the rounds it has begun, in order, and how each ended."""
    now = begin(start)
    for round_start, complete in rounds:
        now = replace(now, under_way=round_start, phase=ExperimentPhase.RUNNING)
        if complete is not None:
            now = _round_ended(now, complete).experiment
    under_way = None if phase.ended else now.under_way
    return replace(now, phase=phase, reason=reason, detail=detail, under_way=under_way)


def step(now: Experiment, event: Event) -> Transition:
    """Let something happen."""
    match event:
        case FleetSeen(alive):
            return _begin_round(now, alive)
        case Commanded(command):
            return Transition(_obey(now, command))
        case RoundEnded(complete):
            if now.under_way is None or complete.round_id != now.under_way.round_id:
                return Transition(now)
            return _round_ended(now, complete)
        case RoundFailed(round_id, reason, detail):
            if now.under_way is None or round_id != now.under_way.round_id:
                return Transition(now)
            ended = replace(now, under_way=None)
            detail = f"round {round_id}: {detail}"
            return Transition(_end(ended, ExperimentPhase.FAILED, reason, detail))


def choose(start: ExperimentStart, round_id: str, alive: Mapping[str, object]) -> tuple[str, ...]:
    """Who takes part in that round, of those who may and are alive: the same ones whenever it is
    asked. Empty when they are too few."""
    rule = start.participants
    count = rule.count(len(alive))
    if count >= len(alive):
        return tuple(sorted(alive)) if count else ()

    def lot(proplet_id: str) -> bytes:
        return hashlib.sha256(f"{start.seed}/{round_id}/{proplet_id}".encode()).digest()

    return tuple(sorted(sorted(alive, key=lot)[:count]))


def _begin_round(now: Experiment, alive: Mapping[str, Mapping[str, str]]) -> Transition:
    if not now.wants_fleet:
        return Transition(now)
    start, rule = now.start, now.start.participants
    if now.evaluates_next and start.evaluate.ids:
        rule = Selection(ids=start.evaluate.ids)
    mode = Mode.EVALUATE if now.evaluates_next else Mode.TRAIN
    number = now.rounds if now.evaluates_next else now.rounds + 1
    round_id = f"{start.experiment_id}-{'e' if now.evaluates_next else 'r'}{number}"
    fit = {name: has for name, has in alive.items() if rule.takes(has)}
    participants = rule.ids or choose(start, round_id, fit)
    if not participants:
        detail = f"waits: {len(fit)} of at least {rule.needed} proplets are there"
        return Transition(replace(now, detail=detail))
    k_of_n = max(rule.k_of(len(participants)), rule.min_updates)
    evaluates_s = start.evaluate.timeout_s if now.evaluates_next else 0.0
    message = RoundStart(
        round_id=round_id,
        model_uri=now.model_uri,
        task_wasm_image=start.task_wasm_image,
        participants=participants,
        hyperparams=_hyperparams(start, number),
        k_of_n=k_of_n,
        timeout_s=evaluates_s or start.timeout_s,
        min_updates=rule.min_updates,
        strategy=start.strategy,
        update_format=start.update_format,
        mode=mode,
        image_sha256=start.image_sha256,
        strategy_args=start.strategy_args,
    )
    return Transition(replace(now, under_way=message, detail=""), (BeginRound(message),))


def _hyperparams(start: ExperimentStart, number: int) -> dict[str, bool | int | float | str]:
    found = dict(start.hyperparams)
    for name, rule in start.schedule.items():
        base = found[name]
        assert not isinstance(base, str), "a schedule changes numbers only"
        found[name] = rule.value(base, number)
    return found


def _obey(now: Experiment, command: Command) -> Experiment:
    phase = now.phase
    match command:
        case Command.PAUSE if phase is ExperimentPhase.RUNNING:
            return replace(now, phase=ExperimentPhase.PAUSED, detail="")
        case Command.RESUME if phase is ExperimentPhase.PAUSED:
            return replace(now, phase=ExperimentPhase.RUNNING, detail="")
        case Command.STOP if phase in (ExperimentPhase.RUNNING, ExperimentPhase.PAUSED):
            if now.under_way is None:
                return _end(now, ExperimentPhase.STOPPED, "command", "an operator stopped it")
            return replace(now, phase=ExperimentPhase.STOPPING, detail="")
    return now


def _round_ended(now: Experiment, complete: RoundComplete) -> Transition:
    assert now.under_way is not None, "a round that ends was under way"
    evaluates = now.under_way.mode is Mode.EVALUATE
    yielded = complete.status is not Outcome.FAILED
    after = replace(
        now,
        under_way=None,
        evaluates_next=False,
        rounds=now.rounds + (not evaluates),
        failures=0 if yielded else now.failures + 1,
    )
    if yielded and evaluates:
        after = replace(after, evaluation=complete.metrics)
    elif yielded:
        after = replace(after, metrics=complete.metrics, model_uri=complete.model_topic)
    judged = yielded and evaluates == bool(now.start.evaluate.every)
    value = complete.metrics.get(now.start.stop.metric) if judged else None
    if value is not None:
        after = _judge(after, value)
    if yielded and not evaluates:
        last = after.rounds >= now.start.stop.rounds
        due = now.start.evaluate.is_due(after.rounds, last=last)
        after = replace(after, evaluates_next=due)
    return Transition(_perhaps_over(after, complete, value), (KeepCompletion(complete),))


def _judge(now: Experiment, value: float) -> Experiment:
    """Compare a value of the metric that the stop rules name with the best so far."""
    if now.start.stop.is_better(value, now.best):
        return replace(now, best=value, best_round=now.rounds, stale=0)
    return replace(now, stale=now.stale + 1)


def _perhaps_over(now: Experiment, complete: RoundComplete, value: float | None) -> Experiment:
    rules = now.start.stop
    if now.phase is ExperimentPhase.STOPPING:
        return _end(now, ExperimentPhase.STOPPED, "command", "an operator stopped it")
    if now.failures >= rules.max_failures:
        detail = f"{now.failures} rounds in a row yielded nothing, the last: {complete.detail}"
        return _end(now, ExperimentPhase.FAILED, "max_failures", detail)
    if value is not None and rules.is_reached(value):
        detail = f"{rules.metric} {value:.6g} in round {now.rounds}"
        return _end(now, ExperimentPhase.COMPLETE, "target", detail)
    if rules.patience and now.stale >= rules.patience:
        best = "" if now.best is None else f"; the best was {now.best:.6g}"
        detail = f"no progress of {rules.metric} in {now.stale} values{best}"
        return _end(now, ExperimentPhase.COMPLETE, "no_progress", detail)
    if now.rounds >= rules.rounds and not now.evaluates_next:
        return _end(now, ExperimentPhase.COMPLETE, "rounds", f"{now.rounds} rounds have trained")
    return now


def _end(now: Experiment, phase: ExperimentPhase, reason: str, detail: str) -> Experiment:
    return replace(now, phase=phase, reason=reason, detail=detail, evaluates_next=False)
