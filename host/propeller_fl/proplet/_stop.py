"""Ends one run of a module from any thread, and no other."""

from __future__ import annotations

import threading

import wasmtime


class Stop:
    """Ends one run, from any thread; a run that has not begun as well.

    The run has its engine for itself, and one tick of that engine's epoch is its deadline: to
    advance the epoch is the one way to end a module that calls nobody, and would end all others of
    the same engine too.
    """

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self.expired = False
        self._engine: wasmtime.Engine | None = None
        self._lock = threading.Lock()

    def now(self) -> None:
        """Again is harmless, and so it is after the end."""
        with self._lock:
            self.wanted.set()
            if self._engine is not None:
                self._engine.increment_epoch()

    def expire(self) -> None:
        """The same, because the time is up."""
        self.expired = not self.wanted.is_set()
        self.now()

    def watch(self, engine: wasmtime.Engine | None) -> None:
        """Advance this engine's epoch from now on, and at once where the end is wanted already;
        None: the run is over, whatever the engine does next."""
        with self._lock:
            self._engine = engine
            if engine is not None and self.wanted.is_set():
                engine.increment_epoch()
