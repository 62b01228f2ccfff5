"""The experiments' service without thread, clock, queue or socket.

A batch of messages is one transaction. What is said rests on rows that are durable by then; if the
store fails, nothing of the batch has happened, and the caller tries it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from propeller_fl.errors import DamagedStoreError, MessageError, StoreError
from propeller_fl.experiments._machine import (
    BeginRound,
    Commanded,
    Event,
    Experiment,
    FleetSeen,
    KeepCompletion,
    begin,
    restore,
    step,
)
from propeller_fl.experiments._roster import Roster
from propeller_fl.experiments._waiting import WaitingFor
from propeller_fl.link import Incoming
from propeller_fl.store import ExperimentStore, SavedExperiment
from propeller_fl.wire import (
    Alive,
    Discovery,
    ExperimentCommand,
    ExperimentPhase,
    ExperimentStart,
    ExperimentStatus,
    Reason,
    RoundComplete,
    RoundStatus,
    Topics,
    check_experiment_id,
    check_id,
    decode_document,
)

_log = logging.getLogger(__name__)

MAX_UNFINISHED: Final = 64
"""Experiments that have not ended, at once."""

_SAID_AGAIN: Final = 32  # newest experiments whose status is said again to a new broker
_STAGING_S: Final = 1.0  # between two looks at who is alive while an experiment waits for more


@dataclass(frozen=True, slots=True)
class Say:
    """Publish this; ``topic`` has its prefix."""

    topic: str
    payload: bytes = field(repr=False)
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Hear:
    """Ask the broker for what it retains on this topic, again if need be."""

    topic: str


@dataclass(frozen=True, slots=True)
class HearNoMore:
    """Enough of this topic."""

    topic: str


Outgoing = Say | Hear | HearNoMore


class Engine:
    """All experiments. Calls in, things to do out; one thread. Times are seconds since the epoch.

    Who is alive is known once it was listened for ``settle_s``: a proplet speaks up only now and
    then. Every method may raise :class:`StoreError`, and has then changed nothing.
    """

    def __init__(
        self,
        topics: Topics,
        store: ExperimentStore,
        *,
        liveness_timeout_s: float,
        settle_s: float,
    ) -> None:
        self._topics = topics
        self._store = store
        self._roster = Roster(liveness_timeout_s, store.proplets())
        self._settle_s = settle_s
        self._settled_at_s: float | None = None
        self._experiments: dict[str, Experiment] = {}  # that have not ended
        self._waiting: dict[str, WaitingFor] = {}  # for the round under way, by experiment
        self._unsaved: dict[str, Discovery] = {}  # introductions, by proplet
        self._outgoing: list[Outgoing] = []
        self._handlers: dict[str, Callable[[bytes, float], None]] = {
            topics.experiment_start: self._start,
            topics.proplet_create: self._introduced,
            topics.proplet_alive: self._said,
        }

    def resume(self) -> None:
        """Take up what the store holds."""
        for saved in self._store.unfinished():
            found = self._restored(saved)
            experiment_id = saved.start.experiment_id
            self._experiments[experiment_id] = found
            if found.under_way is not None:
                self._waiting[experiment_id] = WaitingFor(found.under_way)
            _log.info("experiment resumed", extra={"experiment_id": experiment_id})

    def connected(self, now_s: float) -> list[Outgoing]:
        """There is a connection: the broker may have forgotten what was said, and proplets may have
        come and gone unheard."""
        self._settled_at_s = now_s + self._settle_s
        for waiting in self._waiting.values():
            waiting.ask_soon()
        newest = [self._restored(saved) for saved in self._store.newest(_SAID_AGAIN)]
        ended = {one.start.experiment_id: one for one in newest}
        for one in {**ended, **self._experiments}.values():
            self._say_status(one.status())
        return self._take()

    def handle(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        """Let messages arrive, perhaps none, and time pass; what is to be done about it.

        A message that cannot be handled for a reason nobody thought of is logged and dropped: it
        must not come back for ever.
        """
        try:
            return self._in_transaction(batch, now_s)
        except (StoreError, DamagedStoreError):
            raise
        except Exception:
            if not batch:
                raise
        done: list[Outgoing] = []
        for incoming in batch:
            try:
                done += self._in_transaction([incoming], now_s)
            except (StoreError, DamagedStoreError):
                raise
            except Exception:
                _log.exception("%s cannot be handled", incoming.topic)
        return done

    def _in_transaction(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        before = dict(self._experiments), dict(self._waiting)
        try:
            with self._store.transaction():
                for incoming in batch:
                    self._hear(incoming, now_s)
                self._pass_time(now_s)
        except BaseException:
            self._experiments, self._waiting = before
            self._outgoing.clear()
            raise
        self._unsaved.clear()
        return self._take()

    def due_in_s(self, now_s: float) -> float:
        """When ``handle`` should be called though nothing has arrived."""
        due = [one.due_in_s(now_s) for one in self._waiting.values()]
        if any(one.wants_fleet for one in self._experiments.values()):
            due.append(_STAGING_S)
        return max(0.0, min(due, default=float("inf")))

    # --- messages

    def _hear(self, incoming: Incoming, now_s: float) -> None:
        try:
            self._handle(incoming, now_s)
        except MessageError as err:
            _log.warning("%s ignored: %s", incoming.topic, err)

    def _handle(self, incoming: Incoming, now_s: float) -> None:
        topic, payload = incoming.topic, incoming.payload
        handler = self._handlers.get(topic)
        if handler is not None:
            handler(payload, now_s)
            return
        experiment_id = self._topics.parse_experiment_command(topic)
        if experiment_id is not None:
            self._command(experiment_id, payload, now_s)
            return
        speaker = self._topics.parse_speaker(topic)
        if speaker is not None:
            self._spoken(topic, speaker, payload, now_s)
        elif payload:  # of a round; a retained message that is cleared is empty
            self._of_a_round(topic, payload, now_s)

    def _start(self, payload: bytes, now_s: float) -> None:
        try:
            start = ExperimentStart.decode(payload)
        except MessageError as err:
            self._refuse_malformed(payload, err)
            return
        experiment_id, sha256 = start.experiment_id, start.digest()
        known = self._store.find(experiment_id)
        if known is not None and known.start_sha256 == sha256:  # asked for again
            self._say_status(
                (self._experiments.get(experiment_id) or self._restored(known)).status()
            )
        elif known is not None:
            detail = f"another experiment has the id {experiment_id}, or had it"
            self._refuse(experiment_id, sha256, Reason.EXPERIMENT_ID_USED, detail, retain=False)
        elif len(self._experiments) >= MAX_UNFINISHED:
            detail = f"{MAX_UNFINISHED} experiments have not ended; try again when one has"
            self._refuse(experiment_id, sha256, Reason.TOO_MANY_EXPERIMENTS, detail, retain=False)
        else:
            self._store.add(start, now_s)
            self._experiments[experiment_id] = experiment = begin(start)
            self._say_status(experiment.status())
            _log.info("experiment started", extra={"experiment_id": experiment_id})

    def _command(self, experiment_id: str, payload: bytes, now_s: float) -> None:
        said = ExperimentCommand.decode(payload)
        if said.experiment_id != experiment_id:
            raise MessageError(Reason.IDENTITY, f"it names the experiment {said.experiment_id}")
        experiment = self._experiments.get(experiment_id)
        if experiment is not None:
            _log.info("%s", said.command, extra={"experiment_id": experiment_id})
            self._happen(experiment, Commanded(said.command), now_s)
            return
        known = self._store.find(experiment_id)
        if known is None:
            raise MessageError(Reason.BAD_ID, f"there is no experiment {experiment_id}")
        self._say_status(self._restored(known).status())  # it has ended: nothing can be done

    def _spoken(self, topic: str, speaker: str, payload: bytes, now_s: float) -> None:
        """On a proplet's own topic, as which nobody else can speak."""
        if topic == self._topics.proplet_create_of(speaker):
            named, handle = Discovery.decode(payload).proplet_id, self._introduced
        elif topic == self._topics.proplet_alive_of(speaker):
            named, handle = Alive.decode(payload).proplet_id, self._said
        else:
            return
        if named != speaker:
            raise MessageError(Reason.IDENTITY, f"it names the proplet {named}")
        handle(payload, now_s)

    def _introduced(self, payload: bytes, now_s: float) -> None:
        discovery = Discovery.decode(payload)
        if self._roster.introduced(discovery, now_s):
            self._unsaved[discovery.proplet_id] = discovery

    def _said(self, payload: bytes, now_s: float) -> None:
        self._roster.said(Alive.decode(payload), now_s)

    def _of_a_round(self, topic: str, payload: bytes, now_s: float) -> None:
        for experiment_id, waiting in list(self._waiting.items()):
            round_id = waiting.start.round_id
            event: Event | None = None
            if topic == self._topics.status(round_id):
                event = waiting.heard_status(RoundStatus.decode(payload), now_s)
            elif topic == self._topics.complete(round_id):
                event = waiting.heard_complete(RoundComplete.decode(payload))
            if event is not None:
                self._happen(self._experiments[experiment_id], event, now_s)

    # --- time

    def _pass_time(self, now_s: float) -> None:
        for discovery in self._unsaved.values():
            self._store.put_proplet(discovery, now_s)
        for experiment_id, waiting in list(self._waiting.items()):
            event = waiting.time_passed(now_s)
            if event is not None:
                self._happen(self._experiments[experiment_id], event, now_s)
        wanting = [one for one in self._experiments.values() if one.wants_fleet]
        if wanting:
            is_settled = self._settled_at_s is not None and now_s >= self._settled_at_s
            alive = self._roster.alive(now_s)
            for experiment in wanting:
                if is_settled or experiment.start.participants.ids:
                    self._happen(experiment, FleetSeen(alive), now_s)
        for waiting in self._waiting.values():
            if waiting.ask(now_s):
                round_id = waiting.start.round_id
                # before the round is asked for, so that no answer comes too early
                self._outgoing.append(Hear(self._topics.status(round_id)))
                self._outgoing.append(Hear(self._topics.complete(round_id)))
                if not waiting.is_open:
                    self._outgoing.append(Say(self._topics.round_start, waiting.start.encode()))

    def _happen(self, before: Experiment, event: Event, now_s: float) -> None:
        """Let an experiment take a step, and keep what comes of it."""
        experiment_id = before.start.experiment_id
        transition = step(before, event)
        now = transition.experiment
        for effect in transition.effects:
            match effect:
                case BeginRound(start):
                    self._store.begin_round(experiment_id, start, now_s)
                    _log.info("round begins", extra=_ids(experiment_id, start.round_id))
                case KeepCompletion(complete):
                    self._store.end_round(complete, now_s)
                    _log.info(
                        "round ended: %s",
                        complete.status,
                        extra=_ids(experiment_id, complete.round_id),
                    )
        if now == before:
            return
        self._experiments[experiment_id] = now
        self._await_round(experiment_id, before, now)
        if (now.phase, now.reason, now.detail) != (before.phase, before.reason, before.detail):
            self._store.move(experiment_id, now.phase, now.reason, now.detail, now_s)
        if now.phase.ended:
            del self._experiments[experiment_id]
            level = logging.ERROR if now.phase is ExperimentPhase.FAILED else logging.INFO
            _log.log(level, "%s: %s", now.phase, now.detail, extra={"experiment_id": experiment_id})
        self._say_status(now.status())

    def _await_round(self, experiment_id: str, before: Experiment, now: Experiment) -> None:
        if now.under_way == before.under_way:
            return
        if before.under_way is not None:
            round_id = before.under_way.round_id
            self._outgoing.append(HearNoMore(self._topics.status(round_id)))
            self._outgoing.append(HearNoMore(self._topics.complete(round_id)))
            self._waiting.pop(experiment_id, None)
        if now.under_way is not None:
            self._waiting[experiment_id] = WaitingFor(now.under_way)

    # --- what is said

    def _restored(self, saved: SavedExperiment) -> Experiment:
        rows = self._store.rounds(saved.start.experiment_id)
        rounds = [(row.start, row.complete) for row in rows]
        return restore(saved.start, saved.phase, saved.reason, saved.detail, rounds)

    def _say_status(self, status: ExperimentStatus, *, retain: bool = True) -> None:
        topic = self._topics.experiment_status(status.experiment_id)
        self._outgoing.append(Say(topic, status.encode(), retain))

    def _refuse(
        self, experiment_id: str, sha256: str, reason: str, detail: str, *, retain: bool
    ) -> None:
        _log.warning("experiment refused: %s", detail, extra={"experiment_id": experiment_id})
        phase = ExperimentPhase.REFUSED
        refused = ExperimentStatus(experiment_id, phase, sha256, reason=str(reason), detail=detail)
        self._say_status(refused, retain=retain)

    def _refuse_malformed(self, payload: bytes, err: MessageError) -> None:
        """Say why on the experiment's own topic, if the document at least has a usable id."""
        document = decode_document(payload)
        name = check_id(str(document.get("experiment_id")), "experiment_id")
        experiment_id = check_experiment_id(name)
        self._refuse(experiment_id, "", err.reason, str(err), retain=False)

    def _take(self) -> list[Outgoing]:
        taken, self._outgoing = self._outgoing, []
        return taken


def _ids(experiment_id: str, round_id: str) -> dict[str, str]:
    return {"experiment_id": experiment_id, "round_id": round_id}
