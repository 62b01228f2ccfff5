"""What is retained on the broker (images, models, ends of rounds), heard once for a whole process.

A thousand proplets that wait for the same model are one subscription, and the model comes once.

What is published retained while a broker takes a SUBSCRIBE can arrive neither as retained nor new
(seen with the embedded broker). So as long as somebody reads, who has not found then what they are
after, the subscription is made again, at first soon and then ever less often; the broker answers
with what is retained by then.

The last few images and models are listened to for longer than they are read, since the next task
wants the same image, and often the same model: to ask for them costs more time than a short module.
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
_KEPT: Final = 4  # topics that nobody reads just now …
_KEPT_BYTES: Final = 16 * 1024 * 1024  # … and what is on them

Reader = Callable[[bytes], None]


@dataclass(slots=True)
class _Notice:
    readers: dict[str, Reader] = field(default_factory=dict)
    payload: bytes = b""
    watches: int = 0  # how often there was a first reader


class Board:
    """Subscribes with ``link`` to a topic for as long as somebody reads it.

    On the link loop's thread only.
    """

    def __init__(self, link: Link, loop: LinkLoop) -> None:
        self._link = link
        self._loop = loop
        self._notices: dict[str, _Notice] = {}
        self._kept: dict[str, None] = {}  # those of them without a reader, the oldest first

    def follow(self, topic: str, proplet_id: str, reader: Reader) -> None:
        """Call ``reader`` with what is on ``topic``, now and whenever it changes. Nothing, an empty
        payload, is not told. Raises ``LinkError`` when the link is closed."""
        notice = self._notices.get(topic)
        if notice is None:
            notice = self._notices[topic] = _Notice()
            self._link.subscribe(topic, self._on_message, qos=0)
        if not notice.readers:
            self._kept.pop(topic, None)
            notice.watches += 1
            self._look_later(topic, notice, _FIRST_LOOK_AGAIN_S)
        notice.readers[proplet_id] = reader
        if notice.payload:
            reader(notice.payload)

    def unfollow(self, topic: str, proplet_id: str, *, keep: bool = False) -> None:
        """The end of that. With ``keep`` it is worth remembering. Raises ``LinkError`` when the
        link is closed."""
        notice = self._notices[topic]
        del notice.readers[proplet_id]
        if notice.readers:
            return
        self._kept[topic] = None
        if not (keep and notice.payload):
            self._drop(topic)
        while len(self._kept) > _KEPT or self._kept_bytes() > _KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def came_up(self, link: Link) -> None:
        """A new session, of whichever proplet: on ours a model may have changed unheard. Raises
        ``LinkError`` when the link is closed."""
        if link is self._link:
            for topic in list(self._kept):
                self._drop(topic)

    def _kept_bytes(self) -> int:
        return sum(len(self._notices[topic].payload) for topic in self._kept)

    def _drop(self, topic: str) -> None:
        del self._kept[topic], self._notices[topic]
        self._link.unsubscribe(topic)

    def _look_later(self, topic: str, notice: _Notice, wait_s: float) -> None:
        look = partial(self._look_again, topic, notice, notice.watches, wait_s)
        self._loop.call_later(wait_s, look)

    def _look_again(self, topic: str, notice: _Notice, watch: int, waited_s: float) -> None:
        if self._notices.get(topic) is notice and notice.readers and notice.watches == watch:
            with contextlib.suppress(LinkError):  # closed: nobody reads any more
                self._link.subscribe(topic, self._on_message, qos=0)
                self._look_later(topic, notice, min(2 * waited_s, _LAST_LOOK_AGAIN_S))

    def _on_message(self, incoming: Incoming) -> None:
        notice = self._notices.get(incoming.topic)
        if notice is not None:
            notice.payload = incoming.payload
            if notice.payload:
                for reader in list(notice.readers.values()):
                    reader(notice.payload)
            elif incoming.topic in self._kept:
                with contextlib.suppress(LinkError):
                    self._drop(incoming.topic)  # a new reader looks again until there is something
        incoming.ack()
