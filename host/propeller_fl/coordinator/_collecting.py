"""Which files of updates to fetch, and when: a pure machine.

A few are fetched at a time, in the order in which they were offered. One of which no part comes for
a while goes behind the others. A file takes its room on the disk from its first part until it is
discarded; what would take more than there is waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from propeller_fl.wire import UpdateManifest

FETCHES: Final = 3
"""At once."""

Key = tuple[str, str]  # round and proplet


@dataclass(frozen=True, slots=True)
class Job:
    """One file to fetch; ``sha256`` is that of the document that offers it."""

    update: UpdateManifest
    sha256: str

    @property
    def key(self) -> Key:
        return self.update.round_id, self.update.proplet_id


class Collecting:
    """All offers of a coordinator. ``most_bytes`` is the room for their files."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._waiting: dict[Key, Job] = {}
        self._running: dict[Key, Job] = {}
        self._held: dict[Key, int] = {}  # bytes of files that are there, whole or not

    def holds(self, key: Key, size_bytes: int) -> None:
        """A file was there before."""
        self._held[key] = size_bytes

    def want(self, job: Job) -> bool:
        """Whether a fetch that runs is to be cancelled in favour of this one."""
        running = self._running.get(job.key)
        if running is not None and running.sha256 == job.sha256:
            self._waiting.pop(job.key, None)
            return False
        self._waiting[job.key] = job
        return running is not None

    def next(self) -> Job | None:
        """The fetch to begin now; it runs until it has ``ended``."""
        if len(self._running) >= FETCHES:
            return None
        for key, job in self._waiting.items():
            if key in self._running:
                continue  # another file of the same name
            size_bytes = job.update.file.size_bytes
            others = sum(size for held, size in self._held.items() if held != key)
            if others + size_bytes <= self._most_bytes:
                del self._waiting[key]
                self._running[key] = job
                self._held[key] = size_bytes
                return job
        return None

    def ended(self, job: Job, *, again: bool = False) -> bool:
        """Whether anybody still wants to know. ``again``: it is to be tried again, later."""
        if self._running.get(job.key) is not job:
            return False
        del self._running[job.key]
        wanted = job.key in self._held and job.key not in self._waiting
        if wanted and again:
            self._waiting[job.key] = job
        return wanted

    def discard(self, round_id: str, proplet_id: str = "") -> list[Key]:
        """Forget a proplet's file, or all of a round; returns which fetches are to be cancelled."""
        gone = [
            key
            for key in {**self._waiting, **self._running, **self._held}
            if key[0] == round_id and proplet_id in ("", key[1])
        ]
        for key in gone:
            self._waiting.pop(key, None)
            self._held.pop(key, None)
        return [key for key in gone if key in self._running]

    def is_running(self, round_id: str, proplet_id: str = "") -> bool:
        """Whether a fetch of that round, or proplet, still runs."""
        return any(key[0] == round_id and proplet_id in ("", key[1]) for key in self._running)

    def is_held(self, round_id: str, proplet_id: str) -> bool:
        """Whether its file is wanted."""
        return (round_id, proplet_id) in self._held or (round_id, proplet_id) in self._waiting
