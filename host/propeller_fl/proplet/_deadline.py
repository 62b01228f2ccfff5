"""What a proplet makes of a round's deadline, by a clock that may be wrong.

The deadline is the coordinator's, by its clock, which this machine's may differ from by hours: one
is set to local time, or was set only after the coordinator had started. So it never decides whether
an update counts, which is the coordinator's to say. It only ends what would go on for nobody, and
only ``MARGIN_S`` after its time; a module's run is bounded by its own limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from propeller_fl.wire import TaskStart

MARGIN_S: Final = 86_400.0
"""How far two clocks may be apart before that does harm: more than any two time zones."""

_SET_SINCE_S: Final = 1_735_689_600.0  # 2025-01-01: a clock that shows less was never set


def wall_clock(clock: Callable[[], float] = time.time) -> float | None:
    """Seconds since the epoch, or None where this machine does not know."""
    now_s = clock()
    return now_s if now_s >= _SET_SINCE_S else None


def left_s(start: TaskStart, now_s: float | None) -> float | None:
    """For how long something may still be done for a task's round, the margin included; negative
    when that is over, None where deadline or time are not known."""
    if start.fl is None or start.fl.deadline < _SET_SINCE_S or now_s is None:
        return None
    return start.fl.deadline + MARGIN_S - now_s
