"""The round that an experiment waits for: what is known of it, and when to ask again. Pure."""

from __future__ import annotations

from typing import Final

from propeller_fl.experiments._machine import Event, RoundEnded, RoundFailed
from propeller_fl.wire import Phase, Reason, RoundComplete, RoundStart, RoundStatus

ASK_AGAIN_S: Final = 5.0
LOST_AFTER_S: Final = 60.0
"""How long a completion may be missing of a round that is known to have ended."""


class WaitingFor:
    """Of one round. A completion does not say which start it belongs to, so that none counts before
    a status with the digest of ours was seen: the id could be an older round's."""

    def __init__(self, start: RoundStart) -> None:
        self.start = start
        self._sha256 = start.digest()
        self._asked_s = float("-inf")
        self._ended_s: float | None = None
        self._is_ours = False
        self._complete: RoundComplete | None = None

    @property
    def is_open(self) -> bool:
        """Whether the coordinator has it: it need not be asked for again."""
        return self._is_ours

    def ask(self, now_s: float) -> bool:
        """Whether to ask now, for the round or for what is retained of it."""
        if now_s - self._asked_s < ASK_AGAIN_S:
            return False
        self._asked_s = now_s
        return True

    def ask_soon(self) -> None:
        """The broker may have lost what we asked."""
        self._asked_s = float("-inf")

    def due_in_s(self, now_s: float) -> float:
        """When to look at it again."""
        return self._asked_s + ASK_AGAIN_S - now_s

    def heard_status(self, status: RoundStatus, now_s: float) -> Event | None:
        """What follows from it, if anything does."""
        if status.round_id != self.start.round_id or status.start_sha256 != self._sha256:
            return None
        if status.phase is Phase.REFUSED:
            if status.reason == Reason.TOO_MANY_ROUNDS:
                return None  # it is asked for again until there is room
            return RoundFailed(status.round_id, status.reason, status.detail)
        self._is_ours = True
        if status.phase.closed and self._ended_s is None:
            self._ended_s = now_s
        return self._ended()

    def heard_complete(self, complete: RoundComplete) -> Event | None:
        """As above."""
        if complete.round_id == self.start.round_id:
            self._complete = complete
        return self._ended()

    def time_passed(self, now_s: float) -> Event | None:
        """As above."""
        if self._ended_s is None or now_s - self._ended_s < LOST_AFTER_S:
            return None
        detail = "it has ended, but the coordinator does not say how any more"
        return RoundFailed(self.start.round_id, "completion_lost", detail)

    def _ended(self) -> Event | None:
        if not self._is_ours or self._complete is None:
            return None
        return RoundEnded(self._complete)
