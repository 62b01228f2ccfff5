"""Experiments: how each stands. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from propeller_fl.dashboard._rounds import shown_metrics
from propeller_fl.wire import ExperimentPhase, ExperimentStatus

_MAX_ANSWERS: Final = 64


class ExperimentsView:
    """The ``keep`` of which something was heard last."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._known: dict[str, ExperimentStatus] = {}  # the one heard of last is last
        self._answers: OrderedDict[tuple[str, str], ExperimentStatus] = OrderedDict()  # by start
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    def status(self, name: str) -> ExperimentStatus | None:
        """Where it stands, as was said last."""
        return self._known.get(name)

    def answer(self, name: str, start_sha256: str) -> ExperimentStatus | None:
        """What was said lately of the start with this digest; or of one that could not be read."""
        return self._answers.get((name, start_sha256)) or self._answers.get((name, ""))

    def forget_answer(self, name: str, start_sha256: str) -> None:
        """That start is asked for again."""
        self._answers.pop((name, start_sha256), None)
        self._answers.pop((name, ""), None)

    def said(self, status: ExperimentStatus) -> None:
        name = status.experiment_id
        self._answers[name, status.start_sha256] = status
        if len(self._answers) > _MAX_ANSWERS:
            self._answers.popitem(last=False)
        known = self._known.get(name)
        refused = status.phase is ExperimentPhase.REFUSED
        if refused and known is not None and known.phase is not ExperimentPhase.REFUSED:
            return  # another start, under an id that is in use
        if self._known.pop(name, None) != status:
            self._changed[name] = None
            self._gone.pop(name, None)
        self._known[name] = status
        if len(self._known) > self._keep:
            self.forgot(next(iter(self._known)))

    def forgot(self, name: str) -> None:
        """Nothing is retained any more, or there is no room."""
        if self._known.pop(name, None) is not None:
            self._changed.pop(name, None)
            self._gone[name] = None

    def snapshot(self) -> dict[str, Any]:
        return {"experiments": [_shown(status) for status in self._known.values()]}

    def take_changes(self) -> dict[str, Any]:
        changed, self._changed = self._changed, {}
        gone, self._gone = self._gone, {}
        found: dict[str, Any] = {}
        if changed:
            found["experiments"] = [_shown(self._known[name]) for name in changed]
        if gone:
            found["experiments_gone"] = list(gone)
        return found


def _shown(status: ExperimentStatus) -> dict[str, Any]:
    return {
        "id": status.experiment_id,
        "phase": str(status.phase),
        "ended": status.phase.ended,
        "rounds": status.rounds,
        "of_rounds": status.of_rounds,
        "round_id": status.round_id[:64],
        "metrics": shown_metrics(status.metrics),
        "evaluation": shown_metrics(status.evaluation),
        "why": status.detail[:500] or status.reason[:64],
    }
