"""Messages that are promised with a transaction and published after it, at least once."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable

from propeller_fl.errors import LinkError
from propeller_fl.link import Delivery, Link
from propeller_fl.store import RoundStore

_log = logging.getLogger(__name__)


class Outbox:
    """Publishes what the store owes, in order, and settles it when the broker has it.

    After a restart everything still owed goes out again; all of it is harmless to repeat.
    One thread, but for the broker's answers.
    """

    def __init__(self, link: Link, store: RoundStore) -> None:
        self._link = link
        self._store = store
        self._published = 0  # the highest id handed to the link
        self._delivered: queue.SimpleQueue[int] = queue.SimpleQueue()

    def owe(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Promise a message, within the caller's transaction."""
        self._store.owe(topic, payload, retain=retain)

    def deliver(self) -> None:
        """Hand to the link whatever it has not had yet. Call outside a transaction."""
        for owed in self._store.owed(after=self._published):
            try:
                delivery = self._link.publish(owed.topic, owed.payload, retain=owed.retain)
            except LinkError as err:
                _log.warning("not published yet: %s", err)
                return
            self._published = owed.id
            delivery.add_done_callback(self._settler(owed.id))

    def settle_delivered(self) -> None:
        """Strike off what the broker has taken, within the caller's transaction."""
        delivered: list[int] = []
        try:
            while True:
                delivered.append(self._delivered.get_nowait())
        except queue.Empty:
            pass
        self._store.settle(delivered)

    def _settler(self, owed_id: int) -> Callable[[Delivery], None]:
        def settle(delivery: Delivery) -> None:
            if delivery.error is None:
                self._delivered.put(owed_id)

        return settle
