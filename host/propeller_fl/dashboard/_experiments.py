"""Experiments: how each stands. Pure."""

from __future__ import annotations

from typing import Any

from propeller_fl.dashboard._rounds import shown_metrics
from propeller_fl.wire import ExperimentStatus


class ExperimentsView:
    """The ``keep`` of which something was heard last."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._known: dict[str, ExperimentStatus] = {}  # the one heard of last is last
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    def said(self, status: ExperimentStatus) -> None:
        name = status.experiment_id
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
