"""What is retained on the broker (images, models, ends of rounds), heard once for a whole process.

A thousand proplets that wait for the same model are one subscription, and the model comes once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from propeller_fl.link import Incoming, Link

Reader = Callable[[bytes], None]


@dataclass(slots=True)
class _Notice:
    readers: dict[str, Reader] = field(default_factory=dict)
    payload: bytes = b""


class Board:
    """Subscribes with ``link`` to a topic for as long as somebody reads it.

    On the link loop's thread only.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._notices: dict[str, _Notice] = {}

    def follow(self, topic: str, proplet_id: str, reader: Reader) -> None:
        """Call ``reader`` with what is on ``topic``, now and whenever it changes. Nothing, an empty
        payload, is not told. Raises ``LinkError`` when the link is closed."""
        notice = self._notices.get(topic)
        if notice is None:
            notice = self._notices[topic] = _Notice()
            self._link.subscribe(topic, self._on_message)
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

    def _on_message(self, incoming: Incoming) -> None:
        notice = self._notices.get(incoming.topic)
        if notice is not None:
            notice.payload = incoming.payload
            if notice.payload:
                for reader in list(notice.readers.values()):
                    reader(notice.payload)
        incoming.ack()
