"""Rounds that were asked for: opened, refused, or waiting for their model to turn up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from propeller_fl.config import CoordinatorConfig, LargeConfig
from propeller_fl.coordinator._admission import (
    Admitted,
    AlreadyKnown,
    ModelUnknown,
    Refused,
    judge,
    stopped_before,
)
from propeller_fl.coordinator._large_rounds import LargeRoom
from propeller_fl.coordinator._voice import Voice
from propeller_fl.errors import MessageError
from propeller_fl.link import Incoming
from propeller_fl.observe import RoundOpened
from propeller_fl.rounds import Round
from propeller_fl.store import RoundStore
from propeller_fl.wire import Phase, Reason, RoundStart, check_id, decode_document

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 16
"""Starts that may wait for their model at once. Their messages stay unacknowledged meanwhile, and a
stock mosquitto sends no more while 20 are."""

MAX_OPEN: Final = 1_000
"""Rounds that may be open at once: each is held in memory."""

MAX_OPEN_PARTICIPANTS: Final = 1_000_000
"""Participants of all open rounds together."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A start whose model has not been seen yet. The broker keeps its messages as long."""

    start: RoundStart
    until_s: float
    incomings: tuple[Incoming, ...]


WaitingStarts = dict[tuple[str, str], _Waiting]  # by round id and digest, oldest first


class Starts:
    """Judges starts within the caller's transaction. What waits is volatile: it comes again.

    ``open_rounds`` gives the rounds that are open, those that were just yielded included. ``large``
    is None where no files are kept.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        store: RoundStore,
        voice: Voice,
        open_rounds: Callable[[], Collection[Round]],
        large: LargeConfig | None,
    ) -> None:
        self._config = config
        self._store = store
        self._voice = voice
        self._open_rounds = open_rounds
        self._large = large
        self.waiting: WaitingStarts = {}

    def wants(self, uri: str) -> bool:
        """Whether a start waits for the model on this topic (no prefix)."""
        return any(waiting.start.model_uri == uri for waiting in self.waiting.values())

    def due_in_s(self, now_s: float) -> Iterable[float]:
        """In how many seconds each wait is over."""
        return (waiting.until_s - now_s for waiting in self.waiting.values())

    def arrived(self, incoming: Incoming, now_s: float) -> Iterator[Round]:
        """A start has arrived; yields the round it opens. It is acknowledged once judged."""
        try:
            start = RoundStart.decode(incoming.payload)
        except MessageError as err:
            _log.warning("round refused: %s", err)
            self._refuse_malformed(incoming.payload, err)
            self._voice.acknowledge_message(incoming)
            return
        key = start.round_id, start.digest()
        waiting = self.waiting.get(key)
        if waiting is None:
            yield from self._judge(start, key[1], (incoming,), now_s)
        elif incoming.duplicate:  # the one we hold, or as good: both are acknowledged in the end
            incomings = (*waiting.incomings, incoming)
            self.waiting[key] = replace(waiting, incomings=incomings)
        else:  # asked for once more: the one we hold will do
            self._voice.acknowledge_message(incoming)

    def stopped(self, round_id: str) -> None:
        """A round is to be stopped that is not kept. If it never was, it never will be: what waits
        under its id is refused, and so is what may still come."""
        known = self._store.known_round(round_id)
        if known is not None and known.phase is not Phase.REFUSED:
            self._voice.recall_round(round_id, known.start_sha256, known.phase)
            return
        if known is None and not self._store.remember_stopped(round_id):
            detail = f"no round {round_id} is known here, and too many such were stopped before"
            self._voice.deny_round(round_id, Reason.UNKNOWN_ROUND, detail)
            return
        _log.warning("stopped before it was opened", extra={"round_id": round_id})
        for key, waiting in list(self.waiting.items()):
            if key[0] == round_id:
                refused = Refused(Reason.STOPPED, stopped_before(round_id))
                self._refuse(waiting.start, key[1], refused)
                self._settle(waiting.start, key[1], waiting.incomings)
        self._voice.deny_round(round_id, Reason.STOPPED, stopped_before(round_id))

    def reconsider(self, now_s: float) -> Iterator[Round]:
        """Look again at what waits; yields the rounds that are opened."""
        for (_, sha256), waiting in list(self.waiting.items()):
            yield from self._judge(waiting.start, sha256, waiting.incomings, now_s)

    def _judge(
        self, start: RoundStart, sha256: str, incomings: tuple[Incoming, ...], now_s: float
    ) -> Iterator[Round]:
        round_id = start.round_id
        match judge(start, sha256, self._store, now_s, self._room):
            case Admitted() if not self._has_room(start):
                detail = (
                    f"at most {MAX_OPEN} rounds may be open, with {MAX_OPEN_PARTICIPANTS} "
                    "participants in all; try again when some have ended"
                )
                self._refuse(start, sha256, Refused(Reason.TOO_MANY_ROUNDS, detail))
            case Admitted(opening):
                self._store.open_round(opening)
                self._voice.show(round_id)
                self._voice.note(RoundOpened(round_id, opening.opened_at_s))
                _log.info(
                    "round opened: %d of %d updates within %g s",
                    start.k_of_n,
                    len(start.participants),
                    start.timeout_s,
                    extra={"round_id": round_id},
                )
                yield Round(opening)
            case ModelUnknown():
                if self._may_wait(start, sha256, incomings, now_s):
                    return
            case Refused() as refused:
                self._refuse(start, sha256, refused)
            case AlreadyKnown(pruned):
                _log.info("asked for again", extra={"round_id": round_id})
                if pruned is None:
                    self._voice.show(round_id)
                else:
                    self._voice.recall_round(round_id, sha256, pruned)
        self._settle(start, sha256, incomings)

    def _settle(self, start: RoundStart, sha256: str, incomings: tuple[Incoming, ...]) -> None:
        """It has been judged: the broker may forget it."""
        left = self.waiting.pop((start.round_id, sha256), None)
        if left is not None and not self.wants(start.model_uri):
            self._voice.ask_no_more_for(start.model_uri)
        for incoming in incomings:
            self._voice.acknowledge_message(incoming)

    def _may_wait(
        self, start: RoundStart, sha256: str, incomings: tuple[Incoming, ...], now_s: float
    ) -> bool:
        """Let a start wait for its model, or refuse it."""
        key = start.round_id, sha256
        waiting = self.waiting.get(key)
        missing = f"there is no model on {start.model_uri}"
        if waiting is not None:
            if now_s < waiting.until_s:
                return True
            reason, detail = Reason.UNKNOWN_MODEL, f"{missing}; see `propeller-fl model list`"
        elif len(self.waiting) < MAX_WAITING:
            until_s = now_s + self._config.model_grace_s
            self.waiting[key] = _Waiting(start, until_s, incomings)
            self._voice.ask_for(start.model_uri)
            return True
        else:
            reason = Reason.TOO_MANY_ROUNDS
            detail = f"{missing}, and {MAX_WAITING} rounds wait for theirs already; try again later"
        self._refuse(start, sha256, Refused(reason, detail))
        return False

    @property
    def _room(self) -> LargeRoom:
        return LargeRoom(self._large, self._open_rounds())

    def _has_room(self, start: RoundStart) -> bool:
        rounds = self._open_rounds()
        participants = sum(len(round_.opening.start.participants) for round_ in rounds)
        return (
            len(rounds) < MAX_OPEN
            and participants + len(start.participants) <= MAX_OPEN_PARTICIPANTS
        )

    def _refuse(self, start: RoundStart, sha256: str, refused: Refused) -> None:
        _log.warning("round refused: %s", refused.detail, extra={"round_id": start.round_id})
        self._voice.refuse_round(
            start.round_id,
            sha256,
            refused.reason,
            refused.detail,
            retain=not refused.id_in_use,
        )

    def _refuse_malformed(self, payload: bytes, err: MessageError) -> None:
        """Say why on the round's own topic, if the document at least has a usable id."""
        try:
            round_id = check_id(str(decode_document(payload).get("round_id")), "round_id")
        except MessageError:
            return
        retain = self._store.known_round(round_id) is None  # else its own status must stand
        self._voice.refuse_round(round_id, "", err.reason, str(err), retain=retain)
