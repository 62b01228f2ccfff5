"""Run `propeller_fl` so that it kills itself, with SIGKILL, at a named point of its work.

    python -m tests.faults.killed_at [--armed] POINT[:NTH] -- ARGUMENTS

Passages count from the start, or without --armed from SIGUSR1 on, which is answered with the line
"armed"; the NTH (the first) is the last thing the process does. What it runs is the program as it
is: points are wrapped from outside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from propeller_fl.cli import main
from tests.faults.points import POINTS, STOPPING


class Fuse:
    """Counts the passages of one point, from any thread."""

    def __init__(self, where: str, nth: int) -> None:
        self._where = where
        self._left = nth
        self._armed = False
        self._lock = threading.Lock()

    def arm(self, *_: object) -> None:
        """For SIGUSR1."""
        self._armed = True
        _say("armed")

    def passage(self) -> None:
        with self._lock:
            if not self._armed:
                return
            self._left -= 1
            if self._left == 0:
                _say(f"killed at {self._where}")
                os.kill(os.getpid(), signal.SIGKILL)


def run(arguments: list[str]) -> None:
    armed = arguments[0] == "--armed"
    where, separator, *rest = arguments[armed:]
    point, _, nth = where.partition(":")
    points = {**POINTS, **STOPPING}
    if point not in points or separator != "--":
        sys.exit(f"POINT must be one of {', '.join(points)}, and followed by --")
    fuse = Fuse(where, int(nth or 1))
    points[point](fuse.passage)
    signal.signal(signal.SIGUSR1, fuse.arm)
    if armed:
        fuse.arm()
    main(rest, prog_name="propeller-fl")


def _say(line: str) -> None:
    os.write(2, f"{line}\n".encode())  # at once, past every buffer


if __name__ == "__main__":
    run(sys.argv[1:])
