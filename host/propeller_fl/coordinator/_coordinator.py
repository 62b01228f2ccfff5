"""The shell around the round: messages become events, effects become rows and messages.

One thread takes what has arrived, in batches. A batch is one transaction: the rows are durable
before anything that rests on them is said aloud. If the store fails, the batch is undone here as
well (states are values) and tried again; its messages stay with the broker meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator._admission import (
    Admitted,
    AlreadyKnown,
    ModelUnknown,
    Refused,
    judge,
)
from propeller_fl.coordinator._aggregation import MadeModel, aggregate, completion
from propeller_fl.coordinator._outbox import Outbox
from propeller_fl.coordinator._reading import ReadUpdate, UnreadableUpdate, read_update
from propeller_fl.coordinator._voice import Voice, status_of
from propeller_fl.errors import MessageError, StoreError
from propeller_fl.link import Incoming, Link
from propeller_fl.rounds import (
    Acknowledge,
    Aggregate,
    AggregationFailed,
    ClockTicked,
    Close,
    Effect,
    Event,
    KeepUpdate,
    ModelMade,
    RecordRefusal,
    Round,
    ShowStatus,
    UpdateArrived,
    UpdateUnreadable,
    resume,
    step,
)
from propeller_fl.store import RoundStore
from propeller_fl.wire import (
    Mode,
    Model,
    Outcome,
    Phase,
    Reason,
    RoundStart,
    Topics,
    check_id,
    decode_document,
    flatten,
    model_version,
)

_log = logging.getLogger(__name__)

_BATCH: Final = 256  # messages in one transaction
_RETRY_STORE_S: Final = 1.0
_IDLE_S: Final = 1.0
_ENDED_KEPT: Final = 16  # ended rounds kept at hand for stragglers


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A start whose model has not been seen yet."""

    start: RoundStart
    until_s: float
    incoming: Incoming


class Coordinator:
    """Owns rounds, aggregation and model versions.

    ``link`` must not be started yet; ``start`` does that, once what it must not miss is subscribed.
    ``clock`` gives seconds since the epoch; deadlines survive a restart by it.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: CoordinatorConfig,
        store: RoundStore,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._topics = topics
        self._config = config
        self._store = store
        self._clock = clock
        self._inbox: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._outbox = Outbox(link, store)
        self._voice = Voice(link, topics)
        self._rounds: dict[str, Round] = {}  # those that have not ended
        self._waiting: dict[str, _Waiting] = {}
        self._ended: OrderedDict[str, Round] = OrderedDict()  # the last few that have
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="coordinator")

    def start(self) -> None:
        """Take up what the store holds, then listen. Raises :class:`StoreError`."""
        for round_ in self._store.load_open_rounds():
            self._rounds[round_.opening.start.round_id] = round_
            _log.info("round resumed", extra={"round_id": round_.opening.start.round_id})
        for topic in (
            self._topics.round_start,
            self._topics.forwarded_updates,
            self._topics.any_model,
        ):
            self._link.subscribe(topic, self._inbox.put)
        self._link.start()
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the batch at hand and end. The link is the caller's to close."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has; nothing is handled any more."""
        return self._failure

    # --- the thread

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as err:
            _log.critical("the coordinator has stopped", exc_info=True)
            self._failure = err

    def _serve(self) -> None:
        for round_ in self._rounds.values():
            for effect in resume(round_).effects:
                self._carry_out(round_, effect, None)
        batch: list[Incoming] = []
        while not self._stopping.is_set():
            try:
                batch = batch or self._take()
                self._in_transaction(partial(self._handle, batch))
                batch = []
                self._aggregate_what_is_due()
                self._voice.show_statuses(self._find)
                self._outbox.deliver()
            except StoreError as err:
                _log.error("the store failed, trying again in %g s: %s", _RETRY_STORE_S, err)
                self._stopping.wait(_RETRY_STORE_S)

    def _take(self) -> list[Incoming]:
        """What has arrived, up to a batch; waits for the first as long as nothing is due."""
        taken: list[Incoming] = []
        try:
            incoming = self._inbox.get(timeout=self._patience_s())
            while incoming is not None:
                taken.append(incoming)
                if len(taken) == _BATCH:
                    break
                incoming = self._inbox.get_nowait()
        except queue.Empty:
            pass
        return taken

    def _patience_s(self) -> float:
        now_s = self._clock()
        due = [_IDLE_S, *self._voice.show_due_in_s()]
        due += [round_.opening.deadline_at_s - now_s for round_ in self._rounds.values()]
        due += [waiting.until_s - now_s for waiting in self._waiting.values()]
        return max(0.0, min(due))

    def _in_transaction(self, work: Callable[[], None]) -> None:
        """Do ``work``, make it durable, then say aloud what it wanted said; or undo all of it."""
        rounds, waiting = dict(self._rounds), dict(self._waiting)
        try:
            with self._store.transaction():
                work()
                self._outbox.settle_delivered()
        except StoreError:
            self._rounds, self._waiting = rounds, waiting
            self._ended.clear()
            self._voice.forget()
            raise
        self._voice.say()

    def _handle(self, batch: list[Incoming]) -> None:
        for incoming in batch:
            if incoming.topic == self._topics.round_start:
                self._on_start(incoming)
                continue  # it is acknowledged when it has been judged
            if incoming.topic == self._topics.forwarded_updates:
                self._on_update(incoming.payload)
            elif incoming.topic != self._topics.model_publish:
                self._on_model(self._topics.relative(incoming.topic) or "", incoming.payload)
            self._voice.acknowledge_message(incoming)
        for waiting in list(self._waiting.values()):
            self._open(waiting.start, waiting.incoming)
        now_s = self._clock()
        for round_id in list(self._rounds):
            self._happen(round_id, ClockTicked(now_s))

    # --- messages

    def _on_start(self, incoming: Incoming) -> None:
        try:
            start = RoundStart.decode(incoming.payload)
        except MessageError as err:
            _log.warning("round refused: %s", err)
            self._refuse_malformed(incoming.payload, err)
            self._voice.acknowledge_message(incoming)
            return
        self._open(start, incoming)

    def _open(self, start: RoundStart, incoming: Incoming) -> None:
        now_s = self._clock()
        match judge(start, self._store, now_s):
            case Admitted(opening):
                self._store.open_round(opening)
                self._rounds[start.round_id] = Round(opening)
                self._voice.show(start.round_id)
                _log.info(
                    "round opened: %d of %d updates within %g s",
                    start.k_of_n,
                    len(start.participants),
                    start.timeout_s,
                    extra={"round_id": start.round_id},
                )
            case ModelUnknown():
                waiting = self._waiting.get(start.round_id)
                if waiting is None:
                    until_s = now_s + self._config.model_grace_s
                    self._waiting[start.round_id] = _Waiting(start, until_s, incoming)
                    # asking for it by name makes the broker send what it retains, again
                    uri = self._topics.absolute(start.model_uri)
                    self._link.subscribe(uri, self._inbox.put, qos=0)
                    return  # the broker keeps the start until its model is here or time is up
                if now_s < waiting.until_s:
                    return
                detail = f"there is no model on {start.model_uri}; see `propeller-fl model list`"
                self._refuse(start, Refused(Reason.UNKNOWN_MODEL, detail))
            case Refused() as refused:
                self._refuse(start, refused)
            case AlreadyKnown():
                _log.info("asked for again", extra={"round_id": start.round_id})
                self._voice.show(start.round_id)
        if self._waiting.pop(start.round_id, None) is not None:
            self._link.unsubscribe(self._topics.absolute(start.model_uri))
        self._voice.acknowledge_message(incoming)

    def _refuse(self, start: RoundStart, refused: Refused) -> None:
        _log.warning("round refused: %s", refused.detail, extra={"round_id": start.round_id})
        self._voice.refuse_round(
            start.round_id,
            start.digest(),
            refused.reason,
            refused.detail,
            retain=not refused.id_in_use,
        )

    def _refuse_malformed(self, payload: bytes, err: MessageError) -> None:
        """Say why on the round's own topic, if the document at least has a usable id."""
        try:
            round_id = check_id(str(decode_document(payload).get("round_id")), "round_id")
        except MessageError:
            return
        in_use = self._store.load_round(round_id) is not None
        self._voice.refuse_round(round_id, "", err.reason, str(err), retain=not in_use)

    def _on_model(self, uri: str, payload: bytes) -> None:
        try:
            model = Model.decode(payload)
        except MessageError as err:
            _log.warning("model on %s ignored: %s", uri, err)
            return
        named = model_version(uri)
        if named is not None and model.version not in (None, named):
            _log.warning("model on %s ignored: it says version %s", uri, model.version)
            return
        self._store.put_model(uri, payload, None)

    def _on_update(self, payload: bytes) -> None:
        sha256 = hashlib.sha256(payload).hexdigest()
        match read_update(payload, sha256, self._config.max_update_bytes):
            case UnreadableUpdate("", _, reason, detail) | UnreadableUpdate(_, "", reason, detail):
                _log.warning("update of nobody refused: %s: %s", reason, detail)
            case UnreadableUpdate(round_id, proplet_id, reason, detail):
                self._happen(round_id, UpdateUnreadable(proplet_id, sha256, reason, detail))
            case ReadUpdate(facts) as read:
                self._happen(facts.round_id, UpdateArrived(facts), read)

    # --- the round

    def _happen(self, round_id: str, event: Event, read: ReadUpdate | None = None) -> None:
        round_ = self._find(round_id)
        if round_ is None:
            self._refuse_stray(round_id, event)
            return
        transition = step(round_, event)
        now = transition.round
        if not now.phase.closed:
            self._rounds[round_id] = now
        if now.phase is not round_.phase:
            self._store.save_phase(now)
        for effect in transition.effects:
            self._carry_out(now, effect, read)
        if now.phase.closed:
            self._end(now)

    def _find(self, round_id: str) -> Round | None:
        found = self._rounds.get(round_id) or self._ended.get(round_id)
        if found is None:
            found = self._store.load_round(round_id)
            if found is not None:
                self._end(found)  # what is not among the open ones has ended
        return found

    def _end(self, round_: Round) -> None:
        round_id = round_.opening.start.round_id
        self._rounds.pop(round_id, None)
        self._voice.ended(round_id)
        self._ended[round_id] = round_
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def _carry_out(self, round_: Round, effect: Effect, read: ReadUpdate | None) -> None:
        round_id = round_.opening.start.round_id
        match effect:
            case KeepUpdate(update):
                assert read is not None, "only a readable update is ever accepted"
                shapes = round_.opening.base_shapes if read.tensors else {}
                vector = flatten(read.tensors, shapes)
                self._store.keep_update(update, read.metrics, vector, self._clock())
                _log.info(
                    "update accepted: %d samples, %d of %d",
                    update.num_samples,
                    len(round_.accepted),
                    round_.opening.start.k_of_n,
                    extra={"round_id": round_id, "proplet_id": update.proplet_id},
                )
            case RecordRefusal(proplet_id, reason, detail):
                self._store.record_refusal(round_id, proplet_id, reason, detail, self._clock())
                _log.warning(
                    "update refused: %s: %s",
                    reason,
                    detail,
                    extra={"round_id": round_id, "proplet_id": proplet_id},
                )
            case Acknowledge(proplet_id, sha256, reason, detail):
                self._voice.answer_update(round_id, proplet_id, sha256, reason, detail)
            case Close():
                self._close(round_, effect, None)
            case ShowStatus():
                self._voice.show(round_id)
            case Aggregate():
                pass  # once the updates are durable and acknowledged

    def _refuse_stray(self, round_id: str, event: Event) -> None:
        match event:
            case UpdateArrived(update):
                proplet_id, sha256 = update.proplet_id, update.sha256
            case UpdateUnreadable(proplet_id, sha256):
                pass
            case _:
                return
        detail = f"no round {round_id} is known here"
        _log.warning("update refused: %s", detail, extra={"proplet_id": proplet_id})
        self._voice.answer_update(round_id, proplet_id, sha256, Reason.UNKNOWN_ROUND, detail)

    # --- its end

    def _aggregate_what_is_due(self) -> None:
        for round_ in list(self._rounds.values()):
            if round_.phase is Phase.AGGREGATING:
                self._in_transaction(partial(self._aggregate, round_))

    def _aggregate(self, round_: Round) -> None:
        """Model, version, completion and the duty to publish them, in one transaction."""
        start = round_.opening.start
        try:
            made = aggregate(round_, self._store, self._config)
        except ValueError as err:
            self._happen(start.round_id, AggregationFailed(str(err)))
            return
        version = made.version if made else model_version(start.model_uri) or 0
        transition = step(round_, ModelMade(version))
        self._store.save_phase(transition.round)
        for effect in transition.effects:
            if isinstance(effect, Close):
                self._close(transition.round, effect, made)
        self._end(transition.round)

    def _close(self, round_: Round, close: Close, made: MadeModel | None) -> None:
        start = round_.opening.start
        if made is not None:
            sha256 = self._store.put_model(made.uri, made.body, start.round_id)
            self._outbox.owe(self._topics.model_publish, made.body, retain=False)
        else:
            sha256 = hashlib.sha256(self._store.model(start.model_uri) or b"").hexdigest()
        complete = completion(round_, close, made, sha256, self._store, self._clock())
        self._store.save_completion(complete)
        status = status_of(round_)
        self._outbox.owe(self._topics.complete(start.round_id), complete.encode(), retain=True)
        self._outbox.owe(self._topics.status(start.round_id), status.encode(), retain=True)
        _log.log(
            logging.WARNING if close.outcome is Outcome.FAILED else logging.INFO,
            "round %s: %d updates, %s %s",
            close.outcome,
            len(round_.accepted),
            "evaluated on" if start.mode is Mode.EVALUATE else "model",
            f"{complete.model_topic}{': ' + close.detail if close.detail else ''}",
            extra={"round_id": start.round_id},
        )
