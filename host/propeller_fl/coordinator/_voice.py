"""What the coordinator says: only once the transaction it rests on is durable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from propeller_fl.errors import LinkError, MessageError
from propeller_fl.link import Incoming, Link
from propeller_fl.rounds import Round
from propeller_fl.wire import AckStatus, Phase, RoundStatus, Topics, UpdateAck

_log = logging.getLogger(__name__)

_STATUS_EVERY_S: Final = 0.5
_MAX_ANSWERED: Final = 1_000  # participants a status still lists by name


class Voice:
    """Collects what is to be said during a transaction; says it after, forgets it if that failed.

    Nothing said here needs to arrive: proplets send again until they are answered, and the next
    status replaces the last. What must arrive goes through the outbox.
    """

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._pending: list[Callable[[], None]] = []
        self._unshown: set[str] = set()  # rounds whose status has changed since it was published
        self._shown_at_s: dict[str, float] = {}  # … which was then, by the monotonic clock

    def acknowledge_message(self, incoming: Incoming) -> None:
        """The broker may forget this message."""
        self._pending.append(incoming.ack)

    def answer_update(
        self, round_id: str, proplet_id: str, sha256: str, reason: str, detail: str
    ) -> None:
        """Tell a proplet about its update; an empty ``reason`` means that it is in."""
        status = AckStatus.REFUSED if reason else AckStatus.ACCEPTED
        ack = UpdateAck(round_id, proplet_id, status, sha256, str(reason), detail)
        self._publish(self._topics.ack(round_id, proplet_id), ack.encode(), retain=False)

    def refuse_round(
        self, round_id: str, start_sha256: str, reason: str, detail: str, *, retain: bool
    ) -> None:
        """Tell everyone that a round is not opened. Not retained where the id is another's."""
        status = RoundStatus(
            round_id, Phase.REFUSED, start_sha256, reason=str(reason), detail=detail
        )
        self._publish(self._topics.status(round_id), status.encode(), retain=retain)

    def say(self) -> None:
        """Say everything that is pending."""
        pending, self._pending = self._pending, []
        for say in pending:
            say()

    def forget(self) -> None:
        """Say none of it."""
        self._pending.clear()

    # --- statuses

    def show(self, round_id: str) -> None:
        """The round's status has changed."""
        self._unshown.add(round_id)

    def ended(self, round_id: str) -> None:
        """Its last status went through the outbox."""
        self._unshown.discard(round_id)
        self._shown_at_s.pop(round_id, None)

    def show_due_in_s(self) -> Iterable[float]:
        """In how many seconds each status that has changed may go out."""
        return (self._showable_in_s(round_id) for round_id in self._unshown)

    def show_statuses(self, find: Callable[[str], Round | None]) -> None:
        """Publish the statuses that have changed, each round's at most twice a second."""
        for round_id in [r for r in self._unshown if self._showable_in_s(r) <= 0]:
            round_ = find(round_id)
            if round_ is not None:
                self._publish(
                    self._topics.status(round_id), status_of(round_).encode(), retain=True
                )
            self._unshown.discard(round_id)
            self._shown_at_s[round_id] = time.monotonic()
        self.say()

    def _showable_in_s(self, round_id: str) -> float:
        return self._shown_at_s.get(round_id, 0.0) + _STATUS_EVERY_S - time.monotonic()

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        def say() -> None:
            try:
                self._link.publish(topic, payload, retain=retain)
            except (LinkError, MessageError) as err:  # the queue is full or the link closing
                _log.warning("not said: %s", err)

        self._pending.append(say)


def status_of(round_: Round) -> RoundStatus:
    """The round's status, without names where they would outweigh the updates."""
    status = round_.status()
    return status if status.participants <= _MAX_ANSWERED else replace(status, answered=())
