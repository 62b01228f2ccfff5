"""A message on its way to the broker, and whether its acknowledgement says that it is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ._delivery import Delivery

KEPT_WITHIN_S = 4.9
"""nats-server waits 5 s for what retains a message, which nobody does while the nodes of a cluster
elect; then it says so in its log, and acknowledges the message all the same."""

_MOST_TRIES = 10


@dataclass(slots=True)
class Outgoing:
    """``sent_s`` and ``tries`` are of when it was given to the connection."""

    topic: str
    payload: bytes
    retain: bool
    delivery: Delivery
    properties: Mapping[str, str] = field(default_factory=dict)
    sent_s: float = 0.0
    tries: int = 0

    def sent(self) -> None:
        self.sent_s = time.monotonic()
        self.tries += 1

    def may_be_forgotten(self, kept_within_s: float) -> bool:
        """Whether it is to be retained, and was acknowledged, just now, too late to be sure of it.

        After ten times the broker is taken at its word: it is slow, not without a leader.
        """
        if not self.retain or self.tries >= _MOST_TRIES:
            return False
        return time.monotonic() - self.sent_s >= kept_within_s
