"""Coordinators with one mistake each. A simulation that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from propeller_fl.coordinator import Ack, Engine, Outgoing
from propeller_fl.errors import StoreError
from propeller_fl.link import Incoming
from propeller_fl.rounds import Round
from propeller_fl.store import KeptState, KnownRound, NewUpdate, Owed, PruneBudget, RoundStore
from propeller_fl.wire import Phase
from tests.simulation.process import Subject


class CommitsLater(RoundStore):
    """What has been said is durable only with the batch after it."""

    _pending = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if not self._pending:
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            if self._pending:
                self._db.execute("COMMIT")
        except BaseException:
            self._pending = False
            self._db.execute("ROLLBACK")
            raise
        self._pending = not self._pending


class AcknowledgesFirst(Engine):
    """Tells the broker to forget what it has not handled yet."""

    def handle(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        for incoming in batch:
            incoming.ack()
        return super().handle(batch, now_s)


class LosesWaitingStarts(Engine):
    """Acknowledges a start that is still waiting for its model."""

    def handle(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        outgoing = super().handle(batch, now_s)
        starts = [Ack(incoming) for incoming in batch if incoming.topic == "fl/rounds/start"]
        return [*outgoing, *starts]


class KeepsAStartForEver(Engine):
    """Does not acknowledge a start that was sent again while the first was waiting."""

    def handle(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        outgoing = super().handle(batch, now_s)
        acks = [one for one in outgoing if isinstance(one, Ack)]
        starts = [ack for ack in acks if ack.incoming.topic == "fl/rounds/start"]
        return [one for one in outgoing if one not in starts[1:]]


class DoesNotUndo(Engine):
    """Goes on with what it remembers of a batch that the store has undone."""

    def _in_transaction(self, work: Callable[[], None]) -> None:
        with self._store.transaction():
            work()
            self._store.settle(self._delivered)
        self._delivered.clear()


class LosesSettled(Engine):
    """What the broker has taken is forgotten with a batch that failed."""

    def handle(self, batch: Sequence[Incoming], now_s: float) -> list[Outgoing]:
        try:
            return super().handle(batch, now_s)
        except StoreError:
            self._delivered.clear()
            raise


class SettlesTooEarly(Engine):
    """Takes what is handed to the link for what the broker has."""

    def owed(self, after: int) -> list[Owed]:
        owed = super().owed(after)
        self._store.settle(one.id for one in owed)
        return owed


class OwesInMemory(RoundStore):
    """The outbox is forgotten with the process."""

    _owed: tuple[Owed, ...] = ()

    def owe(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self._owed = (*self._owed, Owed(len(self._owed) + 1, topic, payload, retain))

    def owed(self, after: int = 0) -> list[Owed]:
        return [one for one in self._owed if one.id > after]


class OwesBackwards(RoundStore):
    """What is owed goes out in the wrong order."""

    def owed(self, after: int = 0) -> list[Owed]:
        owed = super().owed(after)
        return [
            replace(one, topic=other.topic, payload=other.payload, retain=other.retain)
            for one, other in zip(owed, reversed(owed), strict=True)
        ]


class ForgetsUpdates(RoundStore):
    """An update is accepted and not kept, now and then."""

    def keep_updates(self, updates: Iterable[NewUpdate], at_s: float) -> None:
        super().keep_updates((u for u in updates if not u.facts.sha256.startswith("0")), at_s)


class CountsTwice(RoundStore):
    """After a restart nobody is in: who sends again is accepted again."""

    def load_round(self, round_id: str) -> Round | None:
        round_ = super().load_round(round_id)
        return round_ and round_._replace(accepted={})

    def keep_updates(self, updates: Iterable[NewUpdate], at_s: float) -> None:
        updates = list(updates)
        for facts, _, _ in updates:
            key = facts.round_id, facts.proplet_id
            self._db.execute("DELETE FROM updates WHERE round_id = ? AND proplet_id = ?", *key)
        super().keep_updates(updates, at_s)


class UsesAVersionTwice(RoundStore):
    """The next version is counted up in memory, from what was there at the start."""

    _version: int | None = None

    def latest_version(self) -> int:
        self._version = super().latest_version() if self._version is None else self._version + 1
        return self._version


class AggregatesTwice(RoundStore):
    """That a round has ended is not written down: the next process aggregates again."""

    def save_phase(self, round_: Round) -> None:
        if round_.phase is not Phase.COMPLETE:
            super().save_phase(round_)


class MovesDeadlines(RoundStore):
    """A restart gives every round a little more time."""

    def load_open_rounds(self) -> list[Round]:
        return [
            r._replace(opening=replace(r.opening, opened_at_s=r.opening.opened_at_s + 1.0))
            for r in super().load_open_rounds()
        ]


class RecordsNoRefusal(RoundStore):
    """A refusal is told and not written down."""

    def record_refusal(
        self, round_id: str, proplet_id: str, reason: str, detail: str, at_s: float
    ) -> None:
        pass


class ForgetsIds(RoundStore):
    """The id of a round that was pruned is free again."""

    def known_round(self, round_id: str) -> KnownRound | None:
        known = super().known_round(round_id)
        return None if known and known.pruned else known


class ForgetsStops(RoundStore):
    """What was stopped before its start is forgotten: it is opened after all."""

    def remember_stopped(self, round_id: str) -> bool:
        return True


class StopsInMemory(RoundStore):
    """A round that was stopped is open again after a restart."""

    def save_phase(self, round_: Round) -> None:
        if not round_.detail.startswith("stopped"):
            super().save_phase(round_)


class PrunesTooMuch(RoundStore):
    """Keeps one round less than it should."""

    def prune_rounds(self, keep: int, budget: PruneBudget) -> list[str]:
        return super().prune_rounds(keep - 1, budget)


class SaysItOnce(Engine):
    """Does not care what a broker has forgotten."""

    def broker_returned(self) -> None:
        pass


class PrunesBases(RoundStore):
    """Forgets models that open rounds are based on."""

    def prune_models(self, keep: int, bases: Iterable[str], budget: PruneBudget) -> None:
        super().prune_models(keep, (), budget)


class MixesUpSamples(RoundStore):
    """The mean is weighted by another number than the update's."""

    def keep_updates(self, updates: Iterable[NewUpdate], at_s: float) -> None:
        super().keep_updates(map(self._another, updates), at_s)

    @staticmethod
    def _another(update: NewUpdate) -> NewUpdate:
        facts = update.facts
        num_samples = facts.num_samples + (facts.proplet_id == "b")
        return update._replace(facts=facts._replace(num_samples=num_samples))


class RemembersInMemory(RoundStore):
    """What a strategy remembers is forgotten with the process."""

    def put_strategy_state(self, uri: str, strategy_sha256: str, state: KeptState) -> None:
        self.__dict__.setdefault("states", {})[uri, strategy_sha256] = state

    def strategy_state(self, uri: str, strategy_sha256: str) -> KeptState | None:
        found: KeptState | None = self.__dict__.get("states", {}).get((uri, strategy_sha256))
        return found


class RemembersForAnyone(RoundStore):
    """A strategy goes on from what the same one with other arguments has left."""

    def strategy_state(self, uri: str, strategy_sha256: str) -> KeptState | None:
        row = self._db.execute(
            "SELECT strategy_sha256 FROM strategy_states WHERE uri = ?", uri
        ).fetchone()
        return super().strategy_state(uri, row[0]) if row else None


_ENGINES: Final[tuple[type[Engine], ...]] = (
    AcknowledgesFirst,
    LosesWaitingStarts,
    KeepsAStartForEver,
    DoesNotUndo,
    LosesSettled,
    SettlesTooEarly,
    SaysItOnce,
)
_STORES: Final[tuple[type[RoundStore], ...]] = (
    CommitsLater,
    OwesInMemory,
    OwesBackwards,
    ForgetsUpdates,
    CountsTwice,
    UsesAVersionTwice,
    AggregatesTwice,
    MovesDeadlines,
    RecordsNoRefusal,
    ForgetsIds,
    ForgetsStops,
    StopsInMemory,
    PrunesTooMuch,
    PrunesBases,
    MixesUpSamples,
    RemembersInMemory,
    RemembersForAnyone,
)
MUTANTS: Final = {
    **{kind.__name__: Subject(engine=kind) for kind in _ENGINES},
    **{kind.__name__: Subject(store=kind) for kind in _STORES},
}
