"""Which parts to ask for, and when again: a pure machine, to which time is an argument.

A window of parts is asked for at a time, in the order of the file. One that does not come is asked
for again, at first soon and then ever less often, until any part comes. Parts that others have
asked for count as well, whenever they come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from propeller_fl.wire import MAX_WANTED, Manifest

FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 30.0


class Fetch:
    """One file. ``have`` are the indices of the parts that are there."""

    def __init__(self, manifest: Manifest, window: int, have: Iterable[int] = ()) -> None:
        self._window = min(window, MAX_WANTED)
        self._missing: dict[str, list[int]] = {}  # by digest: zeros are the same wherever they are
        there = set(have)
        for index, sha256 in enumerate(manifest.parts):
            if index not in there:
                self._missing.setdefault(sha256, []).append(index)
        self._due_s: dict[str, float] = {}  # when what was asked for is asked for again
        self._wait_s = FIRST_WAIT_S

    @property
    def done(self) -> bool:
        return not self._missing

    @property
    def missing(self) -> list[int]:
        """Ascending."""
        return sorted(index for indices in self._missing.values() for index in indices)

    def wants(self, sha256: str) -> bool:
        return sha256 in self._missing

    def arrived(self, sha256: str) -> list[int]:
        """A part with this digest, by the bytes themselves, is here: where it belongs."""
        indices = self._missing.pop(sha256, [])
        self._due_s.pop(sha256, None)
        if indices:
            self._wait_s = FIRST_WAIT_S
        return indices

    def ask(self, now_s: float) -> list[str]:
        """What to ask for now, perhaps nothing."""
        late = [sha256 for sha256, due_s in self._due_s.items() if due_s <= now_s]
        if late:
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        fresh: list[str] = []
        if len(self._due_s) <= self._window // 2:  # some at once, not one by one
            room = self._window - len(self._due_s)
            for sha256 in self._missing:
                if len(fresh) == room:
                    break
                if sha256 not in self._due_s:
                    fresh.append(sha256)
        for sha256 in (*late, *fresh):
            self._due_s[sha256] = now_s + self._wait_s
        return [*late, *fresh]

    def due_in_s(self, now_s: float) -> float:
        """When ``ask`` has something to ask for, if nothing comes; may be negative."""
        return min(self._due_s.values(), default=now_s) - now_s
