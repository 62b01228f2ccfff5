"""Messages that are promised with a transaction and published after it, at least once."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator

from propeller_fl.errors import LinkError, MessageError
from propeller_fl.link import Delivery, Link
from propeller_fl.store import Owed

_log = logging.getLogger(__name__)


class Outbox:
    """Publishes what is owed, in order, and tells what of it the broker has.

    ``owed`` gives what is owed with ids above its argument. After a restart everything still owed
    goes out again; all of it is harmless to repeat. One thread, but for the broker's answers.
    """

    def __init__(self, link: Link, owed: Callable[[int], list[Owed]]) -> None:
        self._link = link
        self._owed = owed
        self._published = 0  # the highest id handed to the link
        self._delivered: queue.SimpleQueue[int] = queue.SimpleQueue()

    def deliver(self) -> None:
        """Hand to the link whatever it has not had yet. Call outside a transaction."""
        for owed in self._owed(self._published):
            try:
                delivery = self._link.publish(owed.topic, owed.payload, retain=owed.retain)
            except MessageError as err:
                # nothing here can make it go; it stays owed, and must not keep back what follows
                _log.error("never published: %s", err)
                self._published = owed.id
                continue
            except LinkError as err:
                _log.warning("not published yet: %s", err)
                return
            self._published = owed.id
            delivery.add_done_callback(self._settler(owed.id))

    def delivered(self) -> Iterator[int]:
        """The ids the broker has taken since this was last asked."""
        while True:
            try:
                yield self._delivered.get_nowait()
            except queue.Empty:
                return

    def _settler(self, owed_id: int) -> Callable[[Delivery], None]:
        def settle(delivery: Delivery) -> None:
            if delivery.error is None:
                self._delivered.put(owed_id)

        return settle
