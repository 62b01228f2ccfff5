"""A round as a pure machine: event in, new state and effects out. No clock, socket or disk.

OPEN ── k updates, or the deadline with at least min_updates ──▶ AGGREGATING
  │                                                                │       │
  └── the deadline with fewer ──▶ FAILED ◀── aggregation failed ───┘       │
                                  COMPLETE ◀────────── model made ─────────┘

OPEN and AGGREGATING ── stopped ──▶ FAILED: no model is made, however many updates are in.

It is as at the deadline already when nothing more can come of waiting: so many tasks have failed
that min_updates cannot be reached, or all others are in.

An update that is a file is offered first, by its manifest: it counts, and is answered, when the
file is here. What is offered when the round ends is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from propeller_fl.rounds._events import (
    Acknowledge,
    Aggregate,
    AggregationFailed,
    ClockTicked,
    Close,
    DropFile,
    Effect,
    Event,
    FetchFile,
    FileArrived,
    FileRefused,
    KeepUpdate,
    ModelMade,
    Opening,
    Receipt,
    RecordRefusal,
    ShowStatus,
    Stopped,
    TasksFailed,
    UpdateArrived,
    UpdateFacts,
    UpdateOffered,
    UpdateUnreadable,
)
from propeller_fl.rounds._receipts import plus
from propeller_fl.rounds._rules import refusal
from propeller_fl.wire import Outcome, Phase, Reason, RoundStatus

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Round(NamedTuple):
    """The state of one round. ``accepted`` by proplet, ``refused`` counted by reason, ``offered``
    by proplet: updates whose files are on their way. ``failed`` by proplet: why its task has;
    that is not kept by the store, and is said again."""

    opening: Opening
    phase: Phase = Phase.OPEN
    accepted: Mapping[str, Receipt] = _NOTHING
    refused: Mapping[str, int] = _NOTHING
    outcome: Outcome | None = None
    detail: str = ""
    offered: Mapping[str, UpdateFacts] = _NOTHING
    failed: Mapping[str, str] = _NOTHING

    @property
    def missing(self) -> tuple[str, ...]:
        """Participants whose update is not in, in their own order."""
        return tuple(p for p in self.opening.start.participants if p not in self.accepted)

    def status(self) -> RoundStatus:
        """What the world is told about it."""
        start = self.opening.start
        return RoundStatus(
            round_id=start.round_id,
            phase=self.phase,
            start_sha256=start.digest(),
            k_of_n=start.k_of_n,
            participants=len(start.participants),
            accepted=len(self.accepted),
            refused=self.refused,
            deadline_at_s=self.opening.deadline_at_s,
            model_sha256=self.opening.base_sha256,
            answered=tuple(self.accepted),
            detail=self.detail,
        )


class Transition(NamedTuple):
    """What an event led to: the round as it is now, and what is to be done, in this order."""

    round: Round
    effects: tuple[Effect, ...] = ()


def step(round_: Round, event: Event) -> Transition:
    """Let ``event`` happen to ``round_``."""
    match event:
        case UpdateArrived(update):
            return _update_arrived(round_, update)
        case UpdateOffered(update):
            return _update_offered(round_, update)
        case FileArrived(proplet_id, sha256):
            return _file_arrived(round_, proplet_id, sha256)
        case FileRefused(proplet_id, sha256, reason, detail):
            return _file_refused(round_, proplet_id, sha256, reason, detail)
        case UpdateUnreadable(proplet_id, sha256, reason, detail):
            return _refuse(round_, proplet_id, sha256, reason, detail)
        case ClockTicked(now_s):
            return _clock_ticked(round_, now_s)
        case Stopped(detail):
            return _stopped(round_, detail)
        case TasksFailed(errors):
            return _tasks_failed(round_, errors)
        case ModelMade(version):
            return _model_made(round_, version)
        case AggregationFailed(detail):
            return _aggregation_failed(round_, detail)


def resume(round_: Round) -> Transition:
    """What a round found in the store after a restart still wants done."""
    if round_.phase is Phase.AGGREGATING:
        return Transition(round_, (_aggregate(round_), ShowStatus()))
    return Transition(round_, (*map(FetchFile, round_.offered.values()), ShowStatus()))


def _update_arrived(round_: Round, update: UpdateFacts) -> Transition:
    return _judge(round_, update) or _accept(round_, update)


def _update_offered(round_: Round, update: UpdateFacts) -> Transition:
    judged = _judge(round_, update)
    if judged is not None:
        return judged
    before = round_.offered.get(update.proplet_id)
    if before is not None and before.sha256 == update.sha256:
        return Transition(round_)  # it is answered when its file is here
    # nothing was promised about another one that it may have offered before
    now = round_._replace(offered={**round_.offered, update.proplet_id: update})
    return Transition(now, (FetchFile(update),))


def _file_arrived(round_: Round, proplet_id: str, sha256: str) -> Transition:
    update = round_.offered.get(proplet_id)
    if round_.phase is not Phase.OPEN or update is None or update.sha256 != sha256:
        return Transition(round_)
    return _accept(_without(round_, proplet_id), update)


def _file_refused(
    round_: Round, proplet_id: str, sha256: str, reason: str, detail: str
) -> Transition:
    update = round_.offered.get(proplet_id)
    if update is None or update.sha256 != sha256:
        return Transition(round_)
    now = _without(round_, proplet_id)
    refused = _refuse(now, proplet_id, sha256, reason, detail)
    return Transition(refused.round, (DropFile(proplet_id), *refused.effects))


def _without(round_: Round, proplet_id: str) -> Round:
    offered = {other: update for other, update in round_.offered.items() if other != proplet_id}
    return round_._replace(offered=offered)


def _judge(round_: Round, update: UpdateFacts) -> Transition | None:
    """What comes of an update that cannot be accepted."""
    kept = round_.accepted.get(update.proplet_id)
    if kept is not None:
        if kept.sha256 == update.sha256:  # sent again because our answer was lost
            return Transition(round_, (Acknowledge(update.proplet_id, update.sha256),))
        reason, detail = Reason.DUPLICATE, "another update of this proplet is in; the first stands"
        return _refuse(round_, update.proplet_id, update.sha256, reason, detail)
    if round_.phase is not Phase.OPEN:
        reason, detail = Reason.ROUND_CLOSED, f"the round is {round_.phase}"
        return _refuse(round_, update.proplet_id, update.sha256, reason, detail)
    refused = refusal(round_.opening, update)
    if refused is not None:
        return _refuse(round_, update.proplet_id, update.sha256, *refused)
    return None


def _accept(round_: Round, update: UpdateFacts) -> Transition:
    receipt = Receipt(update.sha256, update.num_samples, update.size_bytes)
    accepted = plus(round_.accepted, update.proplet_id, receipt)
    now = round_._replace(accepted=accepted)
    effects = (KeepUpdate(update), Acknowledge(update.proplet_id, update.sha256))
    if len(accepted) >= round_.opening.start.k_of_n:  # k reached
        return _start_aggregation(now, Outcome.COMPLETE, effects)
    return _perhaps_hopeless(now, effects) or Transition(now, (*effects, ShowStatus()))


def _clock_ticked(round_: Round, now_s: float) -> Transition:
    if round_.phase is not Phase.OPEN or now_s < round_.opening.deadline_at_s:
        return Transition(round_)
    detail = "its file had not come whole at the deadline of the round"
    round_, given_up = _give_up_offers(round_, Reason.INCOMPLETE, detail)
    count, needed = len(round_.accepted), round_.opening.start.min_updates
    if count >= needed:
        return _start_aggregation(round_, Outcome.TIMEOUT, given_up)
    failed = _fail(round_, f"{count} of at least {needed} updates at the deadline")
    return Transition(failed.round, (*given_up, *failed.effects))


def _tasks_failed(round_: Round, errors: Mapping[str, str]) -> Transition:
    if round_.phase is not Phase.OPEN:
        return Transition(round_)
    known = round_.opening.participants
    now = round_._replace(failed={p: error for p, error in errors.items() if p in known})
    return _perhaps_hopeless(now) or Transition(now)


def _perhaps_hopeless(round_: Round, before: tuple[Effect, ...] = ()) -> Transition | None:
    """The end of an open round to which nothing can come any more that would change it."""
    if not round_.failed:
        return None
    start, count = round_.opening.start, len(round_.accepted)
    lost = [p for p in round_.failed if p not in round_.accepted and p not in round_.offered]
    possible = len(start.participants) - len(lost)
    if not lost or (count < possible and possible >= start.min_updates):
        return None
    detail = f"{len(lost)} of {len(start.participants)} tasks have failed"
    detail += f", that of {lost[0]}: {round_.failed[lost[0]]}"
    if count >= start.min_updates:
        return _start_aggregation(round_, Outcome.TIMEOUT, before, detail)
    why = "the round has ended, and its file had not come whole"
    round_, given_up = _give_up_offers(round_, Reason.ROUND_CLOSED, why)
    failed = _fail(round_, detail)
    return Transition(failed.round, (*before, *given_up, *failed.effects))


def _stopped(round_: Round, detail: str) -> Transition:
    if round_.phase.closed:
        return Transition(round_)
    why = "the round was stopped, and its file had not come whole"
    round_, given_up = _give_up_offers(round_, Reason.ROUND_CLOSED, why)
    failed = _fail(round_, detail)
    return Transition(failed.round, (*given_up, *failed.effects))


def _start_aggregation(
    round_: Round, outcome: Outcome, before: tuple[Effect, ...] = (), detail: str = ""
) -> Transition:
    why = "the round has enough updates, and its file had not come whole"
    round_, given_up = _give_up_offers(round_, Reason.ROUND_CLOSED, why)
    now = round_._replace(phase=Phase.AGGREGATING, outcome=outcome, detail=detail)
    return Transition(now, (*before, *given_up, _aggregate(now), ShowStatus()))


def _give_up_offers(round_: Round, reason: Reason, detail: str) -> tuple[Round, tuple[Effect, ...]]:
    """Refuse all whose files are still on their way."""
    effects: list[Effect] = []
    for proplet_id, update in round_.offered.items():
        refused = _file_refused(round_, proplet_id, update.sha256, reason, detail)
        round_ = refused.round
        effects += refused.effects
    return round_, tuple(effects)


def _aggregate(round_: Round) -> Aggregate:
    assert round_.outcome is not None, "an aggregating round knows what it will be"
    return Aggregate(tuple(sorted(round_.accepted)), round_.outcome)


def _model_made(round_: Round, version: int) -> Transition:
    if round_.phase is not Phase.AGGREGATING or round_.outcome is None:
        return Transition(round_)
    now = round_._replace(phase=Phase.COMPLETE)
    return Transition(now, (Close(round_.outcome, version, round_.detail), ShowStatus()))


def _aggregation_failed(round_: Round, detail: str) -> Transition:
    return _fail(round_, detail) if round_.phase is Phase.AGGREGATING else Transition(round_)


def _fail(round_: Round, detail: str) -> Transition:
    now = round_._replace(phase=Phase.FAILED, outcome=Outcome.FAILED, detail=detail)
    return Transition(now, (Close(Outcome.FAILED, None, detail), ShowStatus()))


def _refuse(round_: Round, proplet_id: str, sha256: str, reason: str, detail: str) -> Transition:
    effects: tuple[Effect, ...] = (Acknowledge(proplet_id, sha256, str(reason), detail),)
    if round_.phase.closed:  # its record is finished; the proplet is told all the same
        return Transition(round_, effects)
    refused = {**round_.refused, str(reason): round_.refused.get(str(reason), 0) + 1}
    now = round_._replace(refused=refused)
    return Transition(now, (RecordRefusal(proplet_id, str(reason), detail), *effects, ShowStatus()))
