"""Advances an engine's epoch while something runs, which is how a run's wall time ends."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator

import wasmtime

from propeller_fl.errors import RequestError

TICK_S = 0.05
_CLOSING_TICKS = 10_000  # at a time; an epoch is a 64-bit counter


class EpochClock:
    """One thread an engine, started with the first run and asleep while there is none."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._runs = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @staticmethod
    def ticks(duration_s: float) -> int:
        """The epochs after which ``duration_s`` has surely passed; at most two ticks longer."""
        return math.ceil(duration_s / TICK_S) + 1

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the epoch advancing for the length of a ``with`` block.

        Raises ``RequestError`` after :meth:`close`.
        """
        with self._changed:
            if self._closed:
                raise RequestError("this Wasm runtime has been closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, name="wasm-epoch", daemon=True)
                self._thread.start()
            self._runs += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._runs -= 1
                self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return self._closed

    def close(self) -> None:
        """Refuse new runs, let the time of those under way run out at once, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _tick(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._runs or self._closed)
                if not self._runs:
                    return
            # By the time that has passed, not by the number of wake-ups: on a busy host a wake-up
            # is late, and many late ones would add up beyond a deadline.
            began, ticks = time.monotonic(), 0
            while self._runs and not self._closed:
                time.sleep(TICK_S)
                due = int((time.monotonic() - began) / TICK_S)
                self._advance(due - ticks)
                ticks = due
            while self._runs:
                self._advance(_CLOSING_TICKS)
                time.sleep(0.001)  # gives a run that was stopped the time to leave

    def _advance(self, ticks: int) -> None:
        for _ in range(ticks):
            self._engine.increment_epoch()
