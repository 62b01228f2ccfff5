"""The coordinator without thread, clock, queue or socket.

Messages become events of rounds, their effects become rows and messages. A batch is one
transaction: the rows are durable before anything that rests on them is handed out to be said. If
the store fails, the batch is undone here as well (states are values), and the caller tries it
again; its messages stay with the broker meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Final

from propeller_fl.config import CoordinatorConfig, LargeConfig
from propeller_fl.coordinator._accepted import Accepted
from propeller_fl.coordinator._aggregation import MadeModel, aggregate, completion
from propeller_fl.coordinator._asides import read_aside
from propeller_fl.coordinator._large_engine import LargeWork, is_of_files
from propeller_fl.coordinator._outgoing import Ack, Outgoing
from propeller_fl.coordinator._pruning import Pruner
from propeller_fl.coordinator._reader import Read, UpdateReader
from propeller_fl.coordinator._reading import ReadOffer, ReadUpdate, UnreadableUpdate
from propeller_fl.coordinator._starts import Starts
from propeller_fl.coordinator._voice import Voice, status_of
from propeller_fl.errors import DamagedStoreError, LostLeadError, MessageError, StoreError
from propeller_fl.link import Incoming
from propeller_fl.observe import AggregationBegun, Fact, RoundEnded
from propeller_fl.rounds import (
    Acknowledge,
    Aggregate,
    AggregationFailed,
    ClockTicked,
    Close,
    DropFile,
    Effect,
    Event,
    FetchFile,
    KeepUpdate,
    ModelMade,
    RecordRefusal,
    Round,
    ShowStatus,
    Stopped,
    UpdateArrived,
    UpdateOffered,
    UpdateUnreadable,
    resume,
    step,
)
from propeller_fl.store import Owed, RoundStore
from propeller_fl.wire import (
    Manifest,
    Mode,
    Model,
    Outcome,
    Phase,
    Reason,
    Topics,
    model_version,
)

_log = logging.getLogger(__name__)

_ENDED_KEPT: Final = 16  # ended rounds kept at hand for stragglers

ENDED_SAID_AGAIN: Final = 32
"""Of how many of the newest rounds their end is said again to a broker that may have forgotten."""


class Engine:
    """Owns rounds, aggregation and model versions. Calls in, things to say out; one thread.

    Times are seconds since the epoch; deadlines survive a restart by them. Every method may raise
    :class:`StoreError`, and has then changed nothing: call it again; or
    :class:`DamagedStoreError` or :class:`LostLeadError`, which are the end. After ``handle`` it is
    the turn of ``aggregate_due``, ``take_statuses`` and ``owed``.

    ``large``: somebody does the :data:`FileWork` that is handed out; None: no round trains a model
    in parts.
    """

    def __init__(
        self,
        topics: Topics,
        config: CoordinatorConfig,
        store: RoundStore,
        large: LargeConfig | None = None,
    ) -> None:
        self._topics = topics
        self._config = config
        self._store = store
        self._voice = Voice(topics)
        self._pruner = Pruner(topics, config.keep_rounds, store)
        self._reader = UpdateReader(config, store, lambda round_id: self._rounds.get(round_id))
        self._rounds: dict[str, Round] = {}  # those that have not ended
        self._starts = Starts(config, store, self._voice, lambda: self._rounds.values(), large)
        self._large = LargeWork(config, store, self._voice)
        self._ended: OrderedDict[str, Round] = OrderedDict()  # the last few that have
        self._accepted = Accepted(store, self._voice)
        self._facts: list[Fact] = []  # durable, and not taken yet
        self._delivered: list[int] = []  # owed messages that the broker has
        self._to_say_again: tuple[str, ...] = ()  # ended rounds, the oldest first
        self._ask_what_to_say_again = False

    def resume(self, now_s: float) -> None:
        """Take up what the store holds."""
        self._rounds = {r.opening.start.round_id: r for r in self._store.load_open_rounds()}
        for round_id, round_ in self._rounds.items():
            _log.info("round resumed", extra={"round_id": round_id})
            for effect in resume(round_).effects:
                self._carry_out(round_, effect, None, now_s)
        self._large.resume(self._rounds.values())

    def file_ended(
        self, round_id: str, proplet_id: str, sha256: str, reason: str, detail: str
    ) -> None:
        """The file that was offered with the document ``sha256`` is here; or refused, for a reason.
        It counts with the next batch."""
        self._large.file_ended(round_id, proplet_id, sha256, reason, detail)

    def model_ended(self, round_id: str, manifest: Manifest | None, detail: str) -> None:
        """A model was made of a round's files, or why there is none. That of a round that was
        stopped meanwhile is of no use."""
        if round_id in self._rounds:
            self._large.model_ended(round_id, manifest, detail)

    def broker_returned(self) -> None:
        """There is a connection. The broker may have forgotten what it retained: where the open
        rounds stand, and how the newest others ended, is said again, the latter one a turn."""
        for round_id in self._rounds:
            self._voice.show(round_id)
        self._ask_what_to_say_again = True

    def handle(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        """Let messages arrive, perhaps none, and time pass; returns what is to be said about it.

        A message that cannot be handled for a reason nobody thought of is logged, undone and
        acknowledged: it must not come back for ever.
        """
        try:
            self._in_transaction(partial(self._let_happen, batch, now_s))
        except (StoreError, LostLeadError, DamagedStoreError):
            raise
        except Exception:
            if not batch:
                raise
            return self._handle_apart(batch, now_s)
        self._accepted.log(self._rounds.get)
        return [*self._large.take_resumed(), *self._voice.take()]

    def aggregate_due(self, now_s: float) -> None:
        """Make the models that are due, each in a transaction of its own. What is to be said about
        them is owed."""
        for round_ in list(self._rounds.values()):
            if round_.phase is Phase.AGGREGATING and self._large.is_ready(round_):
                self._in_transaction(partial(self._aggregate, round_, now_s))

    def take_statuses(self, now_s: float) -> list[Outgoing]:
        """The statuses that have changed, each round's at most twice a second."""
        return self._voice.take_statuses(self._find, now_s)

    def take_facts(self) -> list[Fact]:
        """What has become a fact since this was last asked, for whoever watches."""
        facts, self._facts = self._facts, []
        return facts

    def count_rounds(self) -> dict[str, int]:
        """How many rounds wait for their model, take updates, are made a model of. Any thread."""
        phases = [round_.phase for round_ in list(self._rounds.values())]
        return {
            "waiting": len(self._starts.waiting),
            **{str(phase): phases.count(phase) for phase in (Phase.OPEN, Phase.AGGREGATING)},
        }

    def owed(self, after: int) -> list[Owed]:
        """What must reach the broker, in this order, with ids above ``after``. It is owed, also by
        the next process, until it is ``delivered``."""
        return self._store.owed(after)

    def delivered(self, owed_id: int) -> None:
        """The broker has this; it is struck off with the next batch."""
        self._delivered.append(owed_id)

    def due_in_s(self, now_s: float) -> float:
        """When ``handle`` should be called again though no message has arrived; may be negative."""
        if self._ask_what_to_say_again or self._to_say_again:
            return 0.0
        due = [
            *self._voice.show_due_in_s(now_s),
            *self._starts.due_in_s(now_s),
            *self._pruner.due_in_s,
            *(round_.opening.deadline_at_s - now_s for round_ in self._rounds.values()),
        ]
        return min(due, default=float("inf"))

    # --- transactions

    def _in_transaction(self, work: Callable[[], None]) -> None:
        """Do ``work`` and make it durable, or undo all of it."""
        rounds, waiting = dict(self._rounds), dict(self._starts.waiting)
        again = self._ask_what_to_say_again, self._to_say_again
        try:
            with self._store.transaction():
                work()
                self._store.settle(self._delivered)
        except BaseException:
            self._accepted.forget()
            self._rounds, self._starts.waiting = rounds, waiting
            self._ask_what_to_say_again, self._to_say_again = again
            self._ended.clear()
            self._reader.forget_models()
            self._voice.forget()
            self._pruner.wake()
            self._large.undone()
            raise
        self._delivered.clear()
        self._facts += self._voice.take_facts()
        self._large.done()

    def _let_happen(self, batch: Sequence[Incoming], now_s: float) -> None:
        self._prune()  # first, so that the end of a round is durable before its record can go
        for is_update, group in groupby(batch, self._is_update):
            if is_update:
                self._on_updates(list(group), now_s)
            else:
                self._on_others(group, now_s)
        for round_id, event in self._large.events():
            self._happen(round_id, event, now_s)
        self._add(self._starts.reconsider(now_s))
        self._say_again()
        for round_id in list(self._rounds):
            self._happen(round_id, ClockTicked(now_s), now_s)
        self._accepted.write(now_s)

    def _on_others(self, messages: Iterable[Incoming], now_s: float) -> None:
        for incoming in messages:
            if incoming.topic == self._topics.round_start:
                self._add(self._starts.arrived(incoming, now_s))
                continue  # it is acknowledged when it has been judged
            if incoming.topic == self._topics.model_publish:
                pass  # what we offer the model server ourselves
            elif not self._on_aside(incoming, now_s):
                self._on_model(self._topics.relative(incoming.topic) or "", incoming.payload)
            self._voice.acknowledge_message(incoming)

    def _prune(self) -> None:
        bases = (round_.opening.start.model_uri for round_ in self._rounds.values())
        for round_id in self._pruner.step(bases):
            self._ended.pop(round_id, None)
            self._voice.ended(round_id)

    def _say_again(self) -> None:
        if self._ask_what_to_say_again:
            self._ask_what_to_say_again = False
            self._to_say_again = tuple(self._store.newest_ended(ENDED_SAID_AGAIN))
        elif self._to_say_again:
            round_id, *later = self._to_say_again
            self._to_say_again = tuple(later)
            round_, complete = self._store.load_round(round_id), self._store.completion(round_id)
            if round_ is not None and complete is not None:  # else it was pruned meanwhile
                self._voice.say_end_again(complete, round_)

    def _handle_apart(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        """Find the message that does harm, and go on without it."""
        if len(batch) > 1:
            return [said for incoming in batch for said in self.handle([incoming], now_s)]
        said = self.handle([], now_s)  # raises, if it is none of the message's doing
        [incoming] = batch
        _log.exception("message on %s could not be handled, and is skipped", incoming.topic)
        return [*said, Ack(incoming)]

    # --- messages

    def _on_aside(self, incoming: Incoming, now_s: float) -> bool:
        """Whether it is about a round. Where a stop changes nothing, how the round stands is said
        again, for whoever asked."""
        try:
            aside = read_aside(self._topics, incoming, self._rounds)
        except MessageError as err:
            _log.warning("%s ignored: %s", incoming.topic, err)
            return True
        if aside is None:
            return False
        round_id, event = aside
        if isinstance(event, Stopped):
            self._stop(round_id, event, now_s)
        elif event is not None:
            self._happen(round_id, event, now_s)
        return True

    def _stop(self, round_id: str, event: Stopped, now_s: float) -> None:
        round_ = self._find(round_id)
        if round_ is None:
            self._starts.stopped(round_id)
        elif round_.phase.closed:
            self._voice.show(round_id)
        else:
            self._happen(round_id, event, now_s)

    def _on_model(self, uri: str, payload: bytes) -> None:
        try:
            manifest = Manifest.decode(payload)
            version = Model.decode(payload).version if manifest is None else manifest.version
        except MessageError as err:
            _log.warning("model on %s ignored: %s", uri, err)
            return
        named = model_version(uri)
        if named is not None and version not in (None, named):
            _log.warning("model on %s ignored: it says version %s", uri, version)
            return
        if manifest is not None:
            self._large.published(uri, payload)
        if named is not None and self._pruner.is_old(named) and not self._starts.wants(uri):
            return
        if self._is_another_base(uri, payload):
            _log.warning("model on %s ignored: open rounds are about another one", uri)
            return
        self._store.put_model(uri, payload, None)
        self._reader.forget_models()
        self._pruner.wake()

    def _is_another_base(self, uri: str, payload: bytes) -> bool:
        """Whether open rounds are about other bytes that were published under this name: updates
        may be differences to those, and what their proplets train on is those."""
        bases = {
            round_.opening.base_sha256
            for round_ in self._rounds.values()
            if round_.opening.start.model_uri == uri
        } - {""}  # a round of an older store does not say
        return bool(bases) and hashlib.sha256(payload).hexdigest() not in bases

    def _is_update(self, incoming: Incoming) -> bool:
        return incoming.topic == self._topics.forwarded_updates

    def _on_updates(self, messages: Sequence[Incoming], now_s: float) -> None:
        for read, sha256 in self._reader.read(messages):
            self._on_update(read, sha256, now_s)
        for incoming in messages:
            self._voice.acknowledge_message(incoming)

    def _on_update(self, read: Read, sha256: str, now_s: float) -> None:
        match read:
            case ReadUpdate(facts):
                self._happen(facts.round_id, UpdateArrived(facts), now_s, read)
            case ReadOffer(facts):
                self._happen(facts.round_id, UpdateOffered(facts), now_s, read)
            case UnreadableUpdate("", _, reason, detail) | UnreadableUpdate(_, "", reason, detail):
                _log.warning("update of nobody refused: %s: %s", reason, detail)
            case UnreadableUpdate(round_id, proplet_id, reason, detail):
                self._happen(round_id, UpdateUnreadable(proplet_id, sha256, reason, detail), now_s)

    # --- rounds

    def _add(self, rounds: Iterable[Round]) -> None:
        for round_ in rounds:
            self._rounds[round_.opening.start.round_id] = round_

    def _happen(
        self,
        round_id: str,
        event: Event,
        now_s: float,
        read: ReadUpdate | ReadOffer | None = None,
    ) -> None:
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
            self._carry_out(now, effect, read, now_s)
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

    def _carry_out(
        self, round_: Round, effect: Effect, read: ReadUpdate | ReadOffer | None, now_s: float
    ) -> None:
        round_id = round_.opening.start.round_id
        match effect:
            case KeepUpdate(update):
                if update.in_parts:
                    self._large.keep(update, now_s)
                    self._accepted.add_kept(round_, update)
                else:
                    assert isinstance(read, ReadUpdate), "only a readable update is ever accepted"
                    self._accepted.add(round_, update, read)
            case Acknowledge(proplet_id, sha256, reason, detail):
                self._voice.answer_update(round_id, proplet_id, sha256, reason, detail)
            case ShowStatus():
                self._voice.show(round_id)
            case FetchFile(update):
                self._large.fetch(update, read if isinstance(read, ReadOffer) else None)
            case DropFile(proplet_id):
                self._large.drop(round_id, proplet_id)
            case RecordRefusal(proplet_id, reason, detail):
                self._store.record_refusal(round_id, proplet_id, reason, detail, now_s)
                _log.warning(
                    "update refused: %s: %s",
                    reason,
                    detail,
                    extra={"round_id": round_id, "proplet_id": proplet_id},
                )
            case Close():
                self._close(round_, effect, None, now_s)
            case Aggregate():
                self._voice.note(AggregationBegun(round_id))  # once the updates are durable and
                # acknowledged

    def _refuse_stray(self, round_id: str, event: Event) -> None:
        match event:
            case UpdateArrived(update) | UpdateOffered(update):
                proplet_id, sha256 = update.proplet_id, update.sha256
            case UpdateUnreadable(proplet_id, sha256):
                pass
            case _:
                return
        if self._store.known_round(round_id) is not None:
            reason, detail = Reason.ROUND_CLOSED, "the round ended long ago"
        else:
            reason, detail = Reason.UNKNOWN_ROUND, f"no round {round_id} is known here"
        extra = {"round_id": round_id, "proplet_id": proplet_id}
        _log.warning("update refused: %s: %s", reason, detail, extra=extra)
        self._voice.answer_update(round_id, proplet_id, sha256, reason, detail)

    # --- their end

    def _aggregate(self, round_: Round, now_s: float) -> None:
        """Model, version, completion and the duty to publish them, in one transaction."""
        start = round_.opening.start
        try:
            if is_of_files(round_.opening):
                made: MadeModel | None = self._large.made(round_)
            else:
                made = aggregate(round_, self._store, self._config)
        except ValueError as err:
            self._happen(start.round_id, AggregationFailed(str(err)), now_s)
            return
        version = made.version if made else model_version(start.model_uri) or 0
        transition = step(round_, ModelMade(version))
        self._store.save_phase(transition.round)
        for effect in transition.effects:
            if isinstance(effect, Close):
                self._close(transition.round, effect, made, now_s)
        self._end(transition.round)

    def _close(self, round_: Round, close: Close, made: MadeModel | None, now_s: float) -> None:
        self._accepted.write(now_s)
        start = round_.opening.start
        if made is not None:
            sha256 = self._store.put_model(made.uri, made.body, start.round_id)
            self._store.owe(self._topics.model_publish, made.body, retain=False)
        else:
            sha256 = hashlib.sha256(self._store.model(start.model_uri) or b"").hexdigest()
        if round_.opening.in_parts:
            self._large.close(start.round_id, made)
        complete = completion(round_, close, made, sha256, self._store, now_s)
        self._store.save_completion(complete)
        opened_at_s, num_updates = round_.opening.opened_at_s, len(round_.accepted)
        self._voice.note(RoundEnded(start.round_id, close.outcome, opened_at_s, num_updates))
        status = status_of(round_)
        self._store.owe(self._topics.complete(start.round_id), complete.encode(), retain=True)
        self._store.owe(self._topics.status(start.round_id), status.encode(), retain=True)
        self._pruner.wake()
        _log.log(
            logging.WARNING if close.outcome is Outcome.FAILED else logging.INFO,
            "round %s: %d updates, %s %s",
            close.outcome,
            len(round_.accepted),
            "evaluated on" if start.mode is Mode.EVALUATE else "model",
            f"{complete.model_topic}{': ' + close.detail if close.detail else ''}",
            extra={"round_id": start.round_id},
        )
