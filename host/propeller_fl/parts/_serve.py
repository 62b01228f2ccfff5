"""Which parts to publish: a pure machine, to which time is an argument.

What several ask for at about the same time is published once: all of them hear it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

COALESCE_S: Final = 1.0
MAX_QUEUED: Final = 4_096
"""Parts that wait to be published; what is asked for beyond that is asked for again."""


class Serving:
    """The queue of one holder. The first that was asked for goes first."""

    def __init__(self) -> None:
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._sent_s: OrderedDict[str, float] = OrderedDict()  # in the order of sending

    def wanted(self, parts: Iterable[str], now_s: float) -> None:
        """Somebody asks for these, all of which we hold."""
        self._forget(now_s)
        for sha256 in parts:
            if sha256 not in self._sent_s and len(self._queue) < MAX_QUEUED:
                self._queue.setdefault(sha256, None)

    def next(self, now_s: float) -> str | None:
        """The part to publish now."""
        if not self._queue:
            return None
        sha256, _ = self._queue.popitem(last=False)
        self._sent_s[sha256] = now_s
        return sha256

    def _forget(self, now_s: float) -> None:
        while self._sent_s:
            sha256, sent_s = next(iter(self._sent_s.items()))
            if now_s - sent_s < COALESCE_S:
                return
            del self._sent_s[sha256]
