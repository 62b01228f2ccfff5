"""What is retained on the broker (images, models, ends of rounds), heard once for a whole process.

A thousand proplets that wait for the same model are one subscription, and the model comes once.

What is published retained while a broker takes a SUBSCRIBE can arrive neither as retained nor new
(seen with the embedded broker). So as long as somebody reads, who has not found then what they are
after, the subscription is made again, at first soon and then ever less often; the broker answers
with what is retained by then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from propeller_fl.errors import LinkError
from propeller_fl.link import Incoming, Link, LinkLoop

_FIRST_LOOK_AGAIN_S: Final = 0.5
_LAST_LOOK_AGAIN_S: Final = 32.0

Reader = Callable[[bytes], None]


@dataclass(slots=True)
class _Notice:
    readers: dict[str, Reader] = field(default_factory=dict)
    payload: bytes = b""


class Board:
    """Subscribes with ``link`` to a topic for as long as somebody reads it.

    On the link loop's thread only.
    """

    def __init__(self, link: Link, loop: LinkLoop) -> None:
        self._link = link
        self._loop = loop
        self._notices: dict[str, _Notice] = {}

    def follow(self, topic: str, proplet_id: str, reader: Reader) -> None:
        """Call ``reader`` with what is on ``topic``, now and whenever it changes. Nothing, an empty
        payload, is not told. Raises ``LinkError`` when the link is closed."""
        notice = self._notices.get(topic)
        if notice is None:
            notice = self._notices[topic] = _Notice()
            self._subscribe(topic, notice, _FIRST_LOOK_AGAIN_S)
        notice.readers[proplet_id] = reader
        if notice.payload:
            reader(notice.payload)

    def unfollow(self, topic: str, proplet_id: str) -> None:
        """The end of that. Raises ``LinkError`` when the link is closed."""
        notice = self._notices[topic]
        del notice.readers[proplet_id]
        if not notice.readers:
            del self._notices[topic]
            self._link.unsubscribe(topic)

    def _subscribe(self, topic: str, notice: _Notice, look_again_s: float) -> None:
        self._link.subscribe(topic, self._on_message, qos=0)
        self._loop.call_later(look_again_s, partial(self._look_again, topic, notice, look_again_s))

    def _look_again(self, topic: str, notice: _Notice, waited_s: float) -> None:
        if self._notices.get(topic) is notice:
            with contextlib.suppress(LinkError):  # closed: nobody reads any more
                self._subscribe(topic, notice, min(2 * waited_s, _LAST_LOOK_AGAIN_S))

    def _on_message(self, incoming: Incoming) -> None:
        notice = self._notices.get(incoming.topic)
        if notice is not None:
            notice.payload = incoming.payload
            if notice.payload:
                for reader in list(notice.readers.values()):
                    reader(notice.payload)
        incoming.ack()
