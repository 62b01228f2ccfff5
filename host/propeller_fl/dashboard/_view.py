"""All that the page shows, as one pure state: messages and time in, a snapshot and changes out.

Memory is bounded whatever is published: so many rounds, models and proplets are kept, the newest
ones, and of each text so many characters.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

from propeller_fl.dashboard._experiments import ExperimentsView
from propeller_fl.dashboard._fleet import FleetView
from propeller_fl.dashboard._models import ModelsView
from propeller_fl.dashboard._rounds import RoundView
from propeller_fl.errors import MessageError
from propeller_fl.wire import (
    Alive,
    Discovery,
    ExperimentStatus,
    LaunchReport,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskResult,
    Topics,
    UpdateAck,
    check_id,
)

_MAX_STARTS: Final = 64  # whose round has not been opened or refused yet
_MAX_EARLY: Final = 512  # answers that came before their round was heard of
_MAX_AT_ONCE: Final = 1_000  # proplets in one message to a page


class View:
    """What is known. Times are seconds since the epoch.

    ``heard`` takes every message the page lives on; what cannot be read is counted and dropped.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        liveness_timeout_s: float = 30.0,
        keep_rounds: int = 100,
        keep_experiments: int = 100,
        keep_models: int = 1_000,
        keep_proplets: int = 20_000,
    ) -> None:
        self._topics = topics
        self._keep_rounds = keep_rounds
        self._rounds: dict[str, RoundView] = {}
        self._fleet = FleetView(liveness_timeout_s, keep_proplets)
        self._models = ModelsView(keep_models)
        self.experiments = ExperimentsView(keep_experiments)
        self._starts: OrderedDict[str, RoundStart] = OrderedDict()  # by digest
        self._verdicts: OrderedDict[str, RoundStatus] = OrderedDict()  # by digest of the start
        self._early: deque[tuple[str, UpdateAck]] = deque(maxlen=_MAX_EARLY)
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self.ignored = 0
        """Messages that could not be read."""

    def heard(self, topic: str, payload: bytes, now_s: float) -> None:
        """A message on ``topic``, which has the prefix."""
        relative = self._topics.relative(topic)
        if relative is None:
            return
        try:
            self._take(relative.split("/"), topic, payload, now_s)
        except MessageError:
            self.ignored += 1

    def ticked(self, now_s: float) -> None:
        """Time has passed."""
        self._fleet.ticked(now_s)

    def verdict(self, start_sha256: str) -> RoundStatus | None:
        """What became of the start with this digest, if it was heard lately."""
        return self._verdicts.get(start_sha256)

    def status(self, round_id: str) -> RoundStatus | None:
        """What was said last of this round, if it is known."""
        round_ = self._rounds.get(round_id)
        return None if round_ is None else round_.status

    def is_open(self, round_id: str) -> bool:
        round_ = self._rounds.get(round_id)
        return round_ is not None and round_.phase == Phase.OPEN

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """Everything but the stories of rounds."""
        return {
            "now_s": now_s,
            "proplets": self._fleet.snapshot(),
            "rounds": [round_.summary() for round_ in self._rounds.values()],
            **self._models.snapshot(),
            **self.experiments.snapshot(),
        }

    def take_changes(self, now_s: float) -> dict[str, Any]:
        """What is new since the last call, each thing whole; empty when nothing is."""
        changed, self._changed = self._changed, {}
        gone, self._gone = self._gone, {}
        found = self._fleet.take_changes(_MAX_AT_ONCE) | self._models.take_changes()
        found |= self.experiments.take_changes()
        rounds = [self._rounds[i].summary() for i in changed if i in self._rounds]
        if rounds:
            found["rounds"] = rounds
        if gone:
            found["rounds_gone"] = list(gone)
        return found | {"now_s": now_s} if found else found

    def round(self, round_id: str) -> dict[str, Any] | None:
        """One round with its participants and its story."""
        round_ = self._rounds.get(round_id)
        return None if round_ is None else round_.whole()

    # --- messages

    def _take(self, levels: list[str], topic: str, payload: bytes, now_s: float) -> None:
        match levels:
            case ["fl", "rounds", "start"]:
                self._on_start(RoundStart.decode(payload), now_s)
            case ["fl", "rounds", round_id, "status" | "launch" | "complete" as kind] if payload:
                self._on_round(check_id(round_id, "round_id"), kind, payload, now_s)
            case ["fl", "rounds", round_id, "acks", proplet_id]:
                ack = UpdateAck.decode(payload)
                self._same(ack.round_id == round_id and ack.proplet_id == proplet_id)
                self._on_ack(ack, now_s)
            case ["fl", "experiments", name, "status"]:
                self._on_experiment(check_id(name, "experiment_id"), payload)
            case ["fl", "models", _]:
                version = self._topics.parse_model(topic)
                if version is not None:
                    self._models.published(version, payload)
            case ["control", "proplet", kind, *_]:
                self._on_proplet(kind, self._topics.parse_speaker(topic), payload, now_s)

    def _same(self, holds: bool) -> None:
        """What a message says of itself is what its topic says, which brokers protect."""
        if not holds:
            raise MessageError("identity", "the message names another than its topic")

    def _on_start(self, start: RoundStart, now_s: float) -> None:
        digest = start.digest()
        round_ = self._rounds.get(start.round_id)
        if round_ is not None and round_.start_sha256 == digest:
            self._started(round_, start, digest, now_s)
            return
        self._starts[digest] = start
        if len(self._starts) > _MAX_STARTS:
            self._starts.popitem(last=False)

    def _started(self, round_: RoundView, start: RoundStart, digest: str, now_s: float) -> None:
        round_.started(start, digest, now_s)
        self._models.measured(round_)
        self._changed[round_.round_id] = None

    def _on_round(self, round_id: str, kind: str, payload: bytes, now_s: float) -> None:
        message: RoundStatus | LaunchReport | RoundComplete
        decode: dict[str, Callable[[bytes], RoundStatus | LaunchReport | RoundComplete]] = {
            "status": RoundStatus.decode,
            "launch": LaunchReport.decode,
            "complete": RoundComplete.decode,
        }
        message = decode[kind](payload)
        self._same(message.round_id == round_id)
        round_ = self._rounds.get(round_id)
        if round_ is None:
            round_ = self._rounds[round_id] = RoundView(round_id, now_s)
        match message:
            case RoundStatus():
                self._on_status(round_, message, now_s)
            case LaunchReport():
                for proplet_id in round_.launch_said(message, now_s):
                    if not round_.closed:
                        self._fleet.task_began(proplet_id, _task(round_id, proplet_id))
            case RoundComplete():
                round_.completed(message, now_s)
                self._models.measured(round_)
        if round_.closed:
            for proplet_id in round_.seats:
                self._fleet.task_ended(proplet_id, _task(round_id, proplet_id))
        self._changed[round_id] = None
        self._forget_rounds()

    def _on_status(self, round_: RoundView, status: RoundStatus, now_s: float) -> None:
        digest = status.start_sha256
        if digest and (digest not in self._verdicts or status.phase is Phase.REFUSED):
            self._verdicts[digest] = status
            if len(self._verdicts) > _MAX_STARTS:
                self._verdicts.popitem(last=False)
        start = self._starts.get(digest)
        refused_other = status.phase is Phase.REFUSED and round_.status is not None
        if start is not None and not refused_other:
            self._started(round_, start, digest, now_s)
        if status.phase.closed or start is not None:
            self._starts.pop(digest, None)
        round_.status_said(status, now_s)
        early = [ack for round_id, ack in self._early if round_id == round_.round_id]
        if early:
            self._early = deque(
                (pair for pair in self._early if pair[0] != round_.round_id), _MAX_EARLY
            )
            for ack in early:
                self._on_ack(ack, now_s)

    def _on_ack(self, ack: UpdateAck, now_s: float) -> None:
        round_ = self._rounds.get(ack.round_id)
        if round_ is None:  # on its way, or none: whoever makes ids up must not push rounds out
            self._early.append((ack.round_id, ack))
            return
        round_.answered(ack, now_s)
        task_id = _task(ack.round_id, ack.proplet_id)
        if round_.seats.get(ack.proplet_id) and not ack.reason:
            self._fleet.task_ended(ack.proplet_id, task_id)
        self._changed[ack.round_id] = None

    def _on_experiment(self, name: str, payload: bytes) -> None:
        if not payload:
            self.experiments.forgot(name)
            return
        status = ExperimentStatus.decode(payload)
        self._same(status.experiment_id == name)
        self.experiments.said(status)

    def _on_proplet(self, kind: str, speaker: str | None, payload: bytes, now_s: float) -> None:
        if kind == "create":
            discovery = Discovery.decode(payload)
            self._same(speaker in (None, discovery.proplet_id))
            self._fleet.created(discovery, now_s)
        elif kind == "alive":
            alive = Alive.decode(payload)
            self._same(speaker in (None, alive.proplet_id))
            self._fleet.heard(alive, now_s)
        elif kind == "results":
            result = TaskResult.decode(payload)
            self._same(not result.proplet_id or speaker in (None, result.proplet_id))
            self._on_result(result, speaker or result.proplet_id, now_s)

    def _on_result(self, result: TaskResult, proplet_id: str, now_s: float) -> None:
        self._fleet.task_ended(proplet_id, result.task_id, result.error)
        round_ = self._rounds.get(result.task_id.removesuffix(f".{proplet_id}"))
        if round_ is not None and not round_.closed and proplet_id in round_.seats and result.error:
            round_.task_failed(proplet_id, result.error, now_s)
            self._changed[round_.round_id] = None

    def _forget_rounds(self) -> None:
        """The oldest that has ended goes first; an open one only when there is no other."""
        while len(self._rounds) > self._keep_rounds:
            lost = min(self._rounds.values(), key=lambda r: (not r.closed, r.opened_at_s))
            del self._rounds[lost.round_id]
            self._changed.pop(lost.round_id, None)
            self._gone[lost.round_id] = None


def _task(round_id: str, proplet_id: str) -> str:
    return f"{round_id}.{proplet_id}"
