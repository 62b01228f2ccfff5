"""Messages on their way to a link that may have no room for them just now."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from propeller_fl.errors import LinkError, MessageError
from propeller_fl.link import Delivery, Link

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """One publish."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    make: Callable[[], Message | None]
    sent: Callable[[], None] | None
    failed: Callable[[str], None] | None


class Outbox:
    """Publishes in order, and waits while the link's queue is full. One thread.

    A message is made when its turn comes: a hundred thousand tasks take no room before that, and
    one that nobody wants any more is not sent.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._entries: deque[_Entry] = deque()
        self._held = False

    @property
    def held(self) -> bool:
        """Something waits for room; call ``pump`` again soon."""
        return self._held

    def add(
        self,
        make: Callable[[], Message | None],
        *,
        sent: Callable[[], None] | None = None,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """Queue what ``make`` will give. ``sent`` is called, on the link's thread or here, once
        the broker has it; ``failed``, in ``pump``, if no broker would take it."""
        self._entries.append(_Entry(make, sent, failed))

    def pump(self) -> None:
        """Hand over to the link as much as it takes."""
        while self._entries:
            entry = self._entries[0]
            message = entry.make()
            if message is not None:
                try:
                    delivery = self._link.publish(
                        message.topic, message.payload, retain=message.retain
                    )
                except MessageError as err:
                    _log.error("not published: %s", err)
                    if entry.failed is not None:
                        entry.failed(str(err))
                except LinkError as err:
                    if not self._held:
                        _log.warning("%d messages wait: %s", len(self._entries), err)
                    self._held = True
                    return
                else:
                    delivery.add_done_callback(functools.partial(self._done, entry))
            self._entries.popleft()
        self._held = False

    @staticmethod
    def _done(entry: _Entry, delivery: Delivery) -> None:
        if delivery.error is None and entry.sent is not None:
            entry.sent()
