"""What the coordinator says: only once the transaction it rests on is durable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from propeller_fl.coordinator._outgoing import (
    Ack,
    FileWork,
    Outgoing,
    Publish,
    Subscribe,
    Tell,
    Unsubscribe,
)
from propeller_fl.link import Incoming
from propeller_fl.observe import Fact, RoundRefused, UpdateRefused
from propeller_fl.rounds import Round
from propeller_fl.wire import AckStatus, Phase, RoundComplete, RoundStatus, Topics, UpdateAck

_STATUS_EVERY_S: Final = 0.5
_MAX_ANSWERED: Final = 1_000  # participants a status still lists by name


class Voice:
    """Collects what is to be said during a transaction; ``take`` it after, ``forget`` it if that
    failed. Times are seconds since the epoch."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._pending: list[Outgoing] = []
        self._facts: list[Fact] = []
        self._unshown: dict[str, None] = {}  # rounds whose status has changed since it was said
        self._shown_at_s: dict[str, float] = {}  # … which was then; open rounds only

    def acknowledge_message(self, incoming: Incoming) -> None:
        """The broker may forget this message."""
        self._pending.append(Ack(incoming))

    def answer_update(
        self, round_id: str, proplet_id: str, sha256: str, reason: str, detail: str
    ) -> None:
        """Tell a proplet about its update; an empty ``reason`` means that it is in."""
        status = AckStatus.REFUSED if reason else AckStatus.ACCEPTED
        if reason:
            self.note(UpdateRefused(round_id, proplet_id, str(reason)))
        ack = UpdateAck(round_id, proplet_id, status, sha256, str(reason), detail)
        # A proplet sends its update again until it has heard this, so that a broker's receipt
        # would add nothing but two packets an update.
        self._pending.append(Tell(self._topics.ack(round_id, proplet_id), ack.encode()))

    def refuse_round(
        self, round_id: str, start_sha256: str, reason: str, detail: str, *, retain: bool
    ) -> None:
        """Tell everyone that a round is not opened. Not retained where the id is another's."""
        self.note(RoundRefused(round_id, str(reason)))
        status = RoundStatus(
            round_id, Phase.REFUSED, start_sha256, reason=str(reason), detail=detail
        )
        self._publish(self._topics.status(round_id), status.encode(), retain=retain)

    def deny_round(self, round_id: str, reason: str, detail: str) -> None:
        """Tell whoever spoke of a round that there is none. Not retained: nobody asked for it."""
        status = RoundStatus(round_id, Phase.REFUSED, "", reason=str(reason), detail=detail)
        self._publish(self._topics.status(round_id), status.encode(), retain=False)

    def recall_round(self, round_id: str, start_sha256: str, phase: Phase) -> None:
        """Say how a round ended whose record is gone. Not retained: that was cleared for good."""
        status = RoundStatus(
            round_id, phase, start_sha256, detail="it ended long ago and its record was pruned"
        )
        self._publish(self._topics.status(round_id), status.encode(), retain=False)

    def say_end_again(self, complete: RoundComplete, round_: Round) -> None:
        """Say how a round ended to a broker that may have forgotten it."""
        round_id = complete.round_id
        self._publish(self._topics.complete(round_id), complete.encode(), retain=True)
        self._publish(self._topics.status(round_id), status_of(round_).encode(), retain=True)

    def ask_for(self, uri: str) -> None:
        """Have the broker send what it retains on ``uri`` (no prefix), again if need be."""
        self._pending.append(Subscribe(self._topics.absolute(uri)))

    def ask_no_more_for(self, uri: str) -> None:
        """Undo ``ask_for``."""
        self._pending.append(Unsubscribe(self._topics.absolute(uri)))

    def have_done(self, work: FileWork) -> None:
        """Have something done with files."""
        self._pending.append(work)

    def note(self, fact: Fact) -> None:
        """Have whoever watches know this."""
        self._facts.append(fact)

    def take_facts(self) -> list[Fact]:
        """What has been noted since this was last asked."""
        facts, self._facts = self._facts, []
        return facts

    def take(self) -> list[Outgoing]:
        """All that is pending, which is for the caller to say."""
        pending, self._pending = self._pending, []
        return pending

    def forget(self) -> None:
        """Say none of it."""
        self._pending.clear()
        self._facts.clear()

    # --- statuses

    def show(self, round_id: str) -> None:
        """The round's status has changed."""
        self._unshown[round_id] = None

    def ended(self, round_id: str) -> None:
        """Its last status is owed, or its record is gone."""
        self._unshown.pop(round_id, None)
        self._shown_at_s.pop(round_id, None)

    def show_due_in_s(self, now_s: float) -> Iterable[float]:
        """In how many seconds each status that has changed may go out."""
        return (self._showable_in_s(round_id, now_s) for round_id in self._unshown)

    def take_statuses(self, find: Callable[[str], Round | None], now_s: float) -> list[Outgoing]:
        """The statuses that have changed, each open round's at most twice a second."""
        due = [r for r in self._unshown if self._showable_in_s(r, now_s) <= 0]
        found = [round_ for round_ in map(find, due) if round_ is not None]
        for round_id in due:
            self._unshown.pop(round_id, None)
        for round_ in found:
            round_id = round_.opening.start.round_id
            self._publish(self._topics.status(round_id), status_of(round_).encode(), retain=True)
            if not round_.phase.closed:
                self._shown_at_s[round_id] = now_s
        return self.take()

    def _showable_in_s(self, round_id: str, now_s: float) -> float:
        since_s = now_s - self._shown_at_s.get(round_id, 0.0)
        # a clock that was set back must not silence us until it is there again
        return _STATUS_EVERY_S - since_s if 0 <= since_s < _STATUS_EVERY_S else 0.0

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self._pending.append(Publish(topic, payload, retain))


def status_of(round_: Round) -> RoundStatus:
    """The round's status, without names where they would outweigh the updates."""
    status = round_.status()
    return status if status.participants <= _MAX_ANSWERED else replace(status, answered=())
