"""What happens in a round, written by the loop's thread and waited for by another."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from propeller_fl.wire import RoundComplete


@dataclass(slots=True)
class Traffic:
    """Payloads of one round: what proplets were sent, what they sent, and what became of it.

    ``accepted`` are the proplets whose answer came, even if it was then lost by the profile;
    ``real`` the updates of those whose module was run.
    """

    down_bytes: int = 0
    up_bytes: int = 0
    updates_sent: int = 0
    accepted: set[int] = field(default_factory=set)
    real: dict[int, bytes] = field(default_factory=dict)


class Ledger:
    """``traffic`` is the loop thread's to write, and to be read when the round is over."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._introduced = 0
        self._busy = 0
        self._complete: RoundComplete | None = None
        self.traffic = Traffic()

    @property
    def introduced(self) -> int:
        """Proplets of which the broker has the introduction."""
        return self._introduced

    def begin(self) -> None:
        """A new round."""
        with self._condition:
            self.traffic, self._complete = Traffic(), None

    def note_introduced(self, *, first: bool) -> None:
        with self._condition:
            self._introduced += first
            self._condition.notify_all()

    def note_busy(self, change: int) -> None:
        """So many proplets more (or fewer) have a task."""
        with self._condition:
            self._busy += change
            self._condition.notify_all()

    def note_accepted(self, index: int) -> None:
        with self._condition:
            self.traffic.accepted.add(index)
            self._condition.notify_all()

    def note_complete(self, complete: RoundComplete) -> None:
        with self._condition:
            self._complete = complete
            self._condition.notify_all()

    def wait_introduced(self, proplets: int, timeout_s: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._introduced >= proplets, timeout_s)

    def wait_complete(self, timeout_s: float) -> RoundComplete | None:
        """The end of the round, or None when it has not come."""
        with self._condition:
            self._condition.wait_for(lambda: self._complete is not None, timeout_s)
            return self._complete

    def wait_idle(self, answers: int, timeout_s: float) -> bool:
        """Whether nobody has a task any more, and so many answers have come, in time."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._busy and len(self.traffic.accepted) >= answers, timeout_s
            )
