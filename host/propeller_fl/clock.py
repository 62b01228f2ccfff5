"""Time since the epoch that passes evenly, whatever is done to the machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable


def _since_boot() -> float:
    """Seconds, those of a suspended machine included where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def steady_clock(
    wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = _since_boot
) -> Callable[[], float]:
    """A clock that shows seconds since the epoch by ``wall`` as it stands now, and from then on
    by what has passed: setting the machine's clock moves no deadline of a running process."""
    offset_s = wall() - elapsed()
    return lambda: offset_s + elapsed()
