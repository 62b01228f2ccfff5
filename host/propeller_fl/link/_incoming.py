"""A message from the broker, and the duty to acknowledge it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping


class Incoming:
    """A message as a handler receives it.

    ``topic``      as published
    ``payload``    as published
    ``retained``   the broker had kept it and sends it because we subscribed
    ``duplicate``  the broker may have sent it before
    ``properties`` what was published beside the payload; nothing where MQTT 3.1.1 is spoken

    ``ack()`` tells the broker to forget it. Until then the broker keeps it, and sends it again
    after a reconnect, to the next process of the same client id, or when the wait gets too long.
    """

    __slots__ = ("_ack", "duplicate", "payload", "properties", "retained", "settled", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        *,
        retained: bool,
        duplicate: bool,
        ack: Callable[[Incoming], None],
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.properties = properties or {}
        self.retained = retained
        self.duplicate = duplicate
        self.settled = False  # for the link, on its loop's thread
        self._ack = ack

    def __repr__(self) -> str:
        return f"<Incoming {self.topic!r}, {len(self.payload)} bytes>"

    def ack(self) -> None:
        """Any thread, any number of times. Too late (the connection has gone) does nothing:
        the broker sends the message again."""
        self._ack(self)


def take_batch(
    inbox: queue.SimpleQueue[Incoming | None], patience_s: float, most: int
) -> list[Incoming]:
    """What has arrived, up to ``most``; waits for the first for ``patience_s``. ``None`` among them
    ends the wait."""
    taken: list[Incoming] = []
    try:
        incoming = inbox.get(timeout=max(0.0, patience_s))
        while incoming is not None:
            taken.append(incoming)
            if len(taken) == most:
                break
            incoming = inbox.get_nowait()
    except queue.Empty:
        pass
    return taken
