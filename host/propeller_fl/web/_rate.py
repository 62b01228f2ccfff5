"""How often somebody may ask."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_MAX_CLIENTS: Final = 4096  # whose rate is remembered; the one heard least lately is forgotten


class RateLimit:
    """Tokens in a bucket for each client: ``burst`` at once, ``per_s`` in the long run.

    Pure: it is told the time, in seconds that never go back. Remembers ``max_clients``.
    """

    def __init__(self, per_s: float, burst: float, max_clients: int = _MAX_CLIENTS) -> None:
        self._per_s = per_s
        self._burst = burst
        self._max_clients = max_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, at

    def wait_s(self, client: str, now_s: float) -> float:
        """0 if ``client`` may go on, which counts; else after how long it may."""
        left, at_s = self._buckets.pop(client, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._per_s)
        allowed = left >= 1.0
        self._buckets[client] = (left - 1.0 if allowed else left, now_s)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._per_s
