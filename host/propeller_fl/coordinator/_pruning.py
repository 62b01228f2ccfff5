"""The policy by which ended rounds and old models are forgotten, carried out in small steps."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from propeller_fl.store import PruneBudget, RoundStore
from propeller_fl.wire import Topics

_log = logging.getLogger(__name__)

_STEP_BYTES: Final = 4 * 1024 * 1024  # deleted in one transaction: some milliseconds
_WORKING_S: Final = 0.02  # between steps: others want the disk as well
_BLOCKED_S: Final = 0.2
_MAX_OWED: Final = 512  # no step while so many messages wait for the broker


class Pruner:
    """Keeps the newest ``keep_rounds`` ended rounds and model versions; 0 keeps everything.

    What was retained of a round is cleared on the broker: an empty message is owed for it. The
    round's id is remembered, so that no other round ever gets it.
    """

    def __init__(self, topics: Topics, keep_rounds: int, store: RoundStore) -> None:
        self._topics = topics
        self._keep_rounds = keep_rounds
        self._store = store
        self._due = keep_rounds > 0
        self._wait_s = 0.0

    def wake(self) -> None:
        """There may be something to forget: a round has ended, a model has come, a step has been
        undone."""
        self._due = self._keep_rounds > 0

    @property
    def due_in_s(self) -> Iterable[float]:
        """When the next step should be, if there is one to come."""
        return (self._wait_s,) if self._due else ()

    def is_old(self, version: int) -> bool:
        """Whether a model of this version would be forgotten at once."""
        if not self._keep_rounds:
            return False
        oldest = self._store.oldest_kept_version(self._keep_rounds)
        return oldest is not None and version < oldest

    def step(self, bases: Iterable[str]) -> list[str]:
        """Forget a little, within the caller's transaction; returns the rounds that went.

        ``bases`` are the topics of models that must stay.
        """
        if not self._due:
            return []
        if self._store.count_owed() >= _MAX_OWED:
            self._wait_s = _BLOCKED_S
            return []
        budget = PruneBudget(_STEP_BYTES)
        gone = self._store.prune_rounds(self._keep_rounds, budget)
        self._store.prune_models(self._keep_rounds, bases, budget)
        for round_id in gone:
            for topic in (self._topics.complete(round_id), self._topics.status(round_id)):
                self._store.owe(topic, b"", retain=True)
            _log.debug("round pruned", extra={"round_id": round_id})
        self._due = budget.left_bytes < _STEP_BYTES  # there was something, so there may be more
        self._wait_s = _WORKING_S
        return gone
