"""Ends runs whose wall time is over."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator

from propeller_fl.errors import RequestError
from propeller_fl.proplet._stop import Stop


class RunClock:
    """One thread for all runs, started with the first one that has a time limit.

    It sleeps until the earliest end that it knows of, also when that run is over long before:
    runs that come and go, as they do all the time, do not wake it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends_s: dict[Stop, float] = {}  # of the runs under way, by time.monotonic
        self._wakes_s = math.inf
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return self._closed

    @contextlib.contextmanager
    def running(self, stop: Stop) -> Iterator[None]:
        """A run is under way for the length of a ``with`` block.

        Raises ``RequestError`` after :meth:`close`.
        """
        with self._changed:
            if self._closed:
                raise RequestError("this Wasm runtime has been closed")
            self._ends_s[stop] = math.inf
        try:
            yield
        finally:
            with self._changed:
                del self._ends_s[stop]
                if self._closed:
                    self._changed.notify_all()

    def limit(self, stop: Stop, duration_s: float) -> None:
        """Let a run that is under way expire after ``duration_s``."""
        with self._changed:
            end_s = self._ends_s[stop] = time.monotonic() + duration_s
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="wasm-clock", daemon=True)
                self._thread.start()
            elif end_s < self._wakes_s:
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse new runs, stop those under way and wait for their end."""
        with self._changed:
            self._closed = True
            for stop in self._ends_s:
                stop.now()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._ends_s)
            thread = self._thread
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now_s = time.monotonic()
                for stop, end_s in self._ends_s.items():
                    if end_s <= now_s:
                        self._ends_s[stop] = math.inf
                        stop.expire()
                self._wakes_s = min(self._ends_s.values(), default=math.inf)
                self._changed.wait(min(self._wakes_s - now_s, threading.TIMEOUT_MAX))
