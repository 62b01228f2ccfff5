"""The updates that a transaction accepts: written together, then told to whoever watches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from propeller_fl.coordinator._reading import ReadUpdate
from propeller_fl.coordinator._voice import Voice
from propeller_fl.observe import UpdatesAccepted
from propeller_fl.rounds import Round, UpdateFacts
from propeller_fl.store import NewUpdate, RoundStore

_log = logging.getLogger(__name__)

_MAX_TOLD_APART: Final = 100  # participants of a round whose updates have a line of the log each


class Accepted:
    """What has been accepted and is not written yet. ``write`` it before anything reads updates,
    and before the transaction ends; ``forget`` it if that fails."""

    def __init__(self, store: RoundStore, voice: Voice) -> None:
        self._store = store
        self._voice = voice
        self._unwritten: list[NewUpdate] = []
        self._counts: dict[str, int] = {}  # since the last log, in rounds that are not told apart

    def add(self, round_: Round, facts: UpdateFacts, read: ReadUpdate) -> None:
        """It is in ``round_`` already."""
        vector = read.vector(round_.opening.base_shapes)
        self._unwritten.append(NewUpdate(facts, read.metrics, vector))
        self._log_or_count(round_, facts)

    def add_kept(self, round_: Round, facts: UpdateFacts) -> None:
        """One that is a file, and is kept already."""
        self._voice.note(UpdatesAccepted(facts.round_id, 1, facts.size_bytes))
        self._log_or_count(round_, facts)

    def write(self, now_s: float) -> None:
        """Make them part of the transaction."""
        if not self._unwritten:
            return
        self._store.keep_updates(self._unwritten, now_s)
        sizes: dict[str, list[int]] = {}
        for facts, _, _ in self._unwritten:
            sizes.setdefault(facts.round_id, []).append(facts.size_bytes)
        for round_id, of_round in sizes.items():
            self._voice.note(UpdatesAccepted(round_id, len(of_round), sum(of_round)))
        self._unwritten.clear()

    def forget(self) -> None:
        """The transaction has failed."""
        self._unwritten.clear()
        self._counts.clear()

    def log(self, find: Callable[[str], Round | None]) -> None:
        """What a transaction that is durable now has added to large rounds."""
        for round_id, count in self._counts.items():
            round_ = find(round_id)
            if round_ is not None:
                _log.info(
                    "updates accepted: %d more, %d of %d",
                    count,
                    len(round_.accepted),
                    round_.opening.start.k_of_n,
                    extra={"round_id": round_id},
                )
        self._counts.clear()

    def _log_or_count(self, round_: Round, facts: UpdateFacts) -> None:
        """In a large round a line for each costs more than what it tells: there, :meth:`log` has
        one for all."""
        start, level = round_.opening.start, logging.INFO
        if len(start.participants) > _MAX_TOLD_APART:
            self._counts[start.round_id] = self._counts.get(start.round_id, 0) + 1
            level = logging.DEBUG
        if _log.isEnabledFor(level):
            _log.log(
                level,
                "update accepted: %d samples, %d of %d",
                facts.num_samples,
                len(round_.accepted),
                start.k_of_n,
                extra={"round_id": start.round_id, "proplet_id": facts.proplet_id},
            )
