"""A round as the page shows it, put together from what is said about it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from propeller_fl.wire import (
    AckStatus,
    LaunchReport,
    Mode,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    UpdateAck,
)

MAX_SEATS: Final = 1_000
"""Participants that are shown by name, as many as a RoundStatus names."""

_MAX_LINES: Final = 600  # of a round's story: the newest
_MAX_TEXT: Final = 300
_MAX_REASONS: Final = 64
_LONG_AGO_S: Final = 10.0
_MAX_METRICS: Final = 8
_FIRST: Final = ("loss", "accuracy")


@dataclass(slots=True)
class _Seat:
    """One participant: ``waiting``, ``absent``, ``launched``, ``refused``, ``failed`` or
    ``accepted``, and why."""

    state: str = "waiting"
    reason: str = ""
    detail: str = ""
    at_s: float | None = None
    refusals: int = 0


@dataclass(slots=True)
class _Line:
    at_s: float
    event: str
    proplet_id: str = ""
    detail: str = ""


@dataclass(slots=True)
class RoundView:
    """One round. Whatever arrives twice, or in another order, leads to the same seats."""

    round_id: str
    seen_at_s: float
    start: dict[str, Any] | None = None
    start_sha256: str = ""
    phase: str = ""
    status: RoundStatus | None = None
    complete: RoundComplete | None = None
    launch_error: str = ""
    launched: int = 0
    seats: dict[str, _Seat] = field(default_factory=dict)
    _lines: deque[_Line] = field(default_factory=lambda: deque(maxlen=_MAX_LINES))
    _acks: dict[tuple[str, str], None] = field(default_factory=dict)  # (proplet, digest) seen

    @property
    def closed(self) -> bool:
        return self.complete is not None or self.phase in (
            Phase.COMPLETE,
            Phase.FAILED,
            Phase.REFUSED,
        )

    @property
    def opened_at_s(self) -> float:
        """When it was opened, or the nearest to that which is known."""
        if self.status is not None and self.status.deadline_at_s > 0:
            return self.status.deadline_at_s - (self.start["timeout_s"] if self.start else 0.0)
        if self.complete is not None:
            return _seconds(self.complete.completed_at, self.seen_at_s)
        return self.seen_at_s

    @property
    def evaluates(self) -> bool:
        return self.start is not None and self.start["mode"] == Mode.EVALUATE

    # --- what is said

    def started(self, start: RoundStart, digest: str, now_s: float) -> None:
        """The start that ``status`` speaks of."""
        if self.start is not None:
            return
        self.start, self.start_sha256 = shown_start(start), digest
        for proplet_id in start.participants[:MAX_SEATS]:
            self.seats.setdefault(proplet_id, _Seat())
        self._tell(now_s, "asked for", detail=_asked(start))

    def status_said(self, status: RoundStatus, now_s: float) -> None:
        """Where it stands. A start that was refused under an id in use is not this round."""
        known = self.status
        if status.phase is Phase.REFUSED and known is not None and known.phase is not Phase.REFUSED:
            self._tell(now_s, "another start refused", detail=_why(status.reason, status.detail))
            return
        before, self.status, self.phase = self.phase, status, str(status.phase)
        self.start_sha256 = status.start_sha256
        for proplet_id in status.answered:
            seat = self._seat(proplet_id)
            if seat is not None and seat.state != "accepted":
                self._seats_state(proplet_id, _Seat("accepted", at_s=now_s))
                self._tell(now_s, "accepted", proplet_id)
        if self.phase != before and self.phase in (Phase.OPEN, Phase.REFUSED, Phase.AGGREGATING):
            detail = _why(status.reason, status.detail)
            if status.phase is Phase.OPEN:
                detail = f"{status.k_of_n} of {status.participants} updates wanted"
            began = status.phase is Phase.OPEN and self.start is not None
            at_s = _when(self.opened_at_s, now_s) if began else now_s
            self._tell(at_s, "opened" if status.phase is Phase.OPEN else self.phase, detail=detail)

    def launch_said(self, report: LaunchReport, now_s: float) -> Iterator[str]:
        """Who has a task. Yields those who have it since this report."""
        self.launched = len(report.launched)
        went_out = 0
        for proplet_id in report.launched:
            seat = self._seat(proplet_id)
            if seat is not None and seat.state in ("waiting", "absent"):
                self._seats_state(proplet_id, _Seat("launched", at_s=now_s))
                went_out += 1
                yield proplet_id
        if went_out:
            self._tell(now_s, "launched", detail=f"{went_out} task{'s' * (went_out != 1)} sent")
        for proplet_id in report.absent:
            seat = self._seat(proplet_id)
            if seat is not None and seat.state == "waiting":
                self._seats_state(proplet_id, _Seat("absent", detail="not alive", at_s=now_s))
                self._tell(now_s, "absent", proplet_id, "not alive; gets its task when it is back")
        for proplet_id, error in report.failed.items():
            self.task_failed(proplet_id, error, now_s)
        if report.error and report.error != self.launch_error:
            self._tell(now_s, "not launched", detail=report.error)
        self.launch_error = report.error[:_MAX_TEXT]

    def task_failed(self, proplet_id: str, error: str, now_s: float) -> None:
        seat = self._seat(proplet_id)
        if seat is None or seat.state in ("accepted", "failed"):
            return
        seat.state, seat.detail, seat.at_s = "failed", error[:_MAX_TEXT], now_s
        self._tell(now_s, "failed", proplet_id, error)

    def answered(self, ack: UpdateAck, now_s: float) -> None:
        """An update was accepted or refused. The same answer again changes nothing."""
        key = ack.proplet_id, ack.sha256 + ack.status
        if key in self._acks or len(self._acks) >= 4 * MAX_SEATS:
            return
        self._acks[key] = None
        seat = self._seat(ack.proplet_id)
        if ack.status is AckStatus.ACCEPTED:
            if seat is not None and seat.state != "accepted":
                self._seats_state(ack.proplet_id, _Seat("accepted", at_s=now_s))
                self._tell(now_s, "accepted", ack.proplet_id)
            return
        if seat is not None:
            seat.refusals += 1
            seat.reason, seat.detail = ack.reason[:_MAX_TEXT], ack.detail[:_MAX_TEXT]
            if seat.state != "accepted":
                seat.state, seat.at_s = "refused", now_s
        self._tell(now_s, "refused", ack.proplet_id, _why(ack.reason, ack.detail))

    def completed(self, complete: RoundComplete, now_s: float) -> None:
        if self.complete is None:
            at_s = _when(_seconds(complete.completed_at, now_s), now_s)
            self._tell(at_s, str(complete.status), detail=_ending(complete))
        self.complete = complete
        self.phase = str(Phase.FAILED if complete.status is Outcome.FAILED else Phase.COMPLETE)

    # --- what is shown

    def summary(self) -> dict[str, Any]:
        """What the list shows, and what goes out with every change."""
        status, complete, start = self.status, self.complete, self.start
        refused = complete.refused if complete else status.refused if status else {}
        return {
            "id": self.round_id,
            "phase": self.phase or "asked",
            "closed": self.closed,
            "outcome": str(complete.status) if complete else "",
            "opened_at_s": self.opened_at_s,
            "deadline_at_s": status.deadline_at_s if status else 0.0,
            "completed_at_s": (
                _seconds(complete.completed_at, self.seen_at_s) if complete else None
            ),
            "participants": (
                status.participants
                if status and status.participants
                else (start["participants"] if start else len(self.seats))
            ),
            "k_of_n": status.k_of_n if status and status.k_of_n else (start or {}).get("k_of_n", 0),
            "accepted": complete.num_updates if complete else status.accepted if status else 0,
            "refused": dict(list(refused.items())[:_MAX_REASONS]),
            "launched": self.launched,
            "launch_error": self.launch_error,
            "mode": start["mode"] if start else "",
            "strategy": start["strategy"] if start else "",
            "model_uri": start["model_uri"] if start else "",
            "model_version": complete.model_version if complete else None,
            "samples": complete.total_samples if complete else 0,
            "update_bytes": complete.update_bytes if complete else 0,
            "metrics": shown_metrics(complete.metrics) if complete else {},
            "reason": status.reason[:_MAX_TEXT] if status else "",
            "detail": (complete.detail if complete else status.detail if status else "")[
                :_MAX_TEXT
            ],
        }

    def whole(self) -> dict[str, Any]:
        """The summary with the start, every participant's seat and the story."""
        summary = self.summary()
        return summary | {
            "start": self.start,
            "more_participants": max(0, summary["participants"] - len(self.seats)),
            "seats": [
                {
                    "id": proplet_id,
                    "state": seat.state,
                    "reason": seat.reason,
                    "detail": seat.detail,
                    "at_s": seat.at_s,
                    "refusals": seat.refusals,
                }
                for proplet_id, seat in sorted(self.seats.items())
            ],
            "story": [
                {
                    "at_s": line.at_s,
                    "event": line.event,
                    "proplet_id": line.proplet_id,
                    "detail": line.detail,
                }
                for line in self._lines
            ],
        }

    def _seat(self, proplet_id: str) -> _Seat | None:
        """``None`` when there are too many to be named."""
        seat = self.seats.get(proplet_id)
        if seat is None and len(self.seats) < MAX_SEATS:
            seat = self.seats[proplet_id] = _Seat()
        return seat

    def _seats_state(self, proplet_id: str, now: _Seat) -> None:
        before = self.seats[proplet_id]
        now.refusals = before.refusals
        if now.state == "accepted" and before.refusals:
            now.reason, now.detail = before.reason, before.detail
        self.seats[proplet_id] = now

    def _tell(self, at_s: float, event: str, proplet_id: str = "", detail: str = "") -> None:
        self._lines.append(_Line(at_s, event, proplet_id, detail[:_MAX_TEXT]))


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """At most a few, loss and accuracy first. Proplets choose the names."""
    names: Iterable[str] = sorted(metrics, key=lambda n: (n not in _FIRST, n))
    return {name[:64]: metrics[name] for name in list(names)[:_MAX_METRICS]}


def shown_start(start: RoundStart) -> dict[str, Any]:
    """What the page says of it: its participants only by number."""
    return {
        "model_uri": start.model_uri,
        "image": start.task_wasm_image[:_MAX_TEXT],
        "participants": len(start.participants),
        "hyperparams": _few(start.hyperparams),
        "k_of_n": start.k_of_n,
        "min_updates": start.min_updates,
        "timeout_s": start.timeout_s,
        "strategy": start.strategy,
        "strategy_args": _few(start.strategy_args),
        "update_format": str(start.update_format),
        "mode": str(start.mode),
    }


def _few(values: Any) -> dict[str, Any]:
    pairs = list(values.items())[:64]
    return {
        name[:64]: value[:_MAX_TEXT] if isinstance(value, str) else value for name, value in pairs
    }


def _asked(start: RoundStart) -> str:
    verb = "evaluates" if start.mode is Mode.EVALUATE else "trains"
    return f"{start.task_wasm_image} {verb} {start.model_uri}"


def _ending(complete: RoundComplete) -> str:
    if complete.status is Outcome.FAILED:
        return complete.detail
    count, samples = complete.num_updates, complete.total_samples
    sums = f"{count} update{'s' * (count != 1)}, {samples} sample{'s' * (samples != 1)}"
    return f"{sums} → {complete.model_topic}"


def _why(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if reason and detail else reason or detail


def _when(said_s: float, now_s: float) -> float:
    """When it happened: as we heard it, in the order of all that we hear; or as was said of it, if
    it is retained from long ago."""
    return said_s if said_s < now_s - _LONG_AGO_S else now_s


def _seconds(text: str, otherwise_s: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return otherwise_s
