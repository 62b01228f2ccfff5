"""Whether a process can do its work just now."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PROBE_BYTES: Final = 4096

Check = Callable[[], str]
"""What is amiss, or nothing."""


class Readiness:
    """Named checks, added while services start. Not ready before ``started``. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checks: dict[str, Check] = {}
        self._phase = "starting"
        self._places: dict[str, Check] = {}

    def tell(self, name: str, place: Callable[[], str]) -> None:
        """``place`` says what part ``name`` has at the moment, which is fine whatever it is."""
        with self._lock:
            self._places[name] = place

    def places(self) -> dict[str, str]:
        """The parts that are played here."""
        with self._lock:
            return {name: place() for name, place in self._places.items()}

    def add(self, name: str, check: Check) -> None:
        """``name`` is shown to whoever asks, with what ``check`` says."""
        with self._lock:
            self._checks[name] = check

    def started(self) -> None:
        """All checks are there."""
        self._phase = ""

    def stopping(self) -> None:
        """The services end: no more work for us."""
        self._phase = "stopping"

    def amiss(self) -> dict[str, str]:
        """What keeps this process from working, by the check's name; empty: it is ready."""
        with self._lock:
            checks = dict(self._checks)
        found = {name: said for name, check in checks.items() if (said := check())}
        return {"process": self._phase, **found} if self._phase else found


def unwritable(directory: Path) -> str:
    """Why nothing can be written into ``directory``, or nothing. Writes a little, which is gone
    when it returns."""
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as err:
        return f"cannot be written: {err.strerror}"
    return ""
