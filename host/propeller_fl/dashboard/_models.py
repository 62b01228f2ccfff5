"""Model versions, and what was measured on their way. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from propeller_fl.dashboard._rounds import RoundView, shown_metrics
from propeller_fl.errors import MessageError
from propeller_fl.wire import Manifest, Model, Outcome, format_of, size_of

_READ_BYTES: Final = 256 * 1024  # up to here a document is decoded, to count its parameters


@dataclass(frozen=True, slots=True)
class ModelView:
    """One retained model: its document, or the manifest of a file in parts."""

    version: int
    form: str
    size_bytes: int
    sha256: str
    in_parts: bool
    parameters: int | None

    @classmethod
    def of(cls, version: int, payload: bytes) -> ModelView:
        """Raises :class:`MessageError` for what is no model."""
        sha256 = hashlib.sha256(payload).hexdigest()
        manifest = Manifest.decode(payload)
        if manifest is not None:
            count = size_of(manifest.shapes)
            return cls(version, "safetensors", manifest.size_bytes, manifest.sha256, True, count)
        parameters = None
        if len(payload) <= _READ_BYTES:
            parameters = sum(array.size for array in Model.decode(payload).tensors.values())
        return cls(version, str(format_of(payload)), len(payload), sha256, False, parameters)

    def shown(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "format": self.form,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "in_parts": self.in_parts,
            "parameters": self.parameters,
        }


class ModelsView:
    """The newest ``keep`` versions, and as many points of the curves."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._models: dict[int, ModelView] = {}
        self._points: dict[tuple[int, str], dict[str, Any]] = {}  # by version and round
        self._changed: dict[int, None] = {}
        self._gone: dict[int, None] = {}
        self._new_points: dict[tuple[int, str], None] = {}

    @property
    def newest(self) -> int | None:
        return max(self._models, default=None)

    def published(self, version: int, payload: bytes) -> None:
        """What is retained for a version; empty: it was cleared."""
        if not payload:
            if self._models.pop(version, None) is not None:
                self._changed.pop(version, None)
                self._gone[version] = None
            return
        try:
            model = ModelView.of(version, payload)
        except MessageError:
            return
        if self._models.get(version) == model:
            return
        self._models[version] = model
        self._changed[version] = None
        self._gone.pop(version, None)
        if len(self._models) > self._keep:
            oldest = min(self._models)
            del self._models[oldest]
            self._changed.pop(oldest, None)
            self._gone[oldest] = None

    def measured(self, round_: RoundView) -> None:
        """A round that has ended is a point of the curves, if it yielded a model or judged one."""
        complete = round_.complete
        if complete is None or complete.status is Outcome.FAILED:
            return
        key = complete.model_version, round_.round_id
        self._points[key] = {
            "version": complete.model_version,
            "round_id": round_.round_id,
            "evaluated": round_.evaluates,
            "metrics": shown_metrics(complete.metrics),
            "updates": complete.num_updates,
            "samples": complete.total_samples,
        }
        self._new_points[key] = None
        if len(self._points) > self._keep:
            oldest = min(self._points)
            del self._points[oldest]
            self._new_points.pop(oldest, None)

    def snapshot(self) -> dict[str, Any]:
        return {
            "models": [model.shown() for _, model in sorted(self._models.items())],
            "points": [point for _, point in sorted(self._points.items())],
        }

    def take_changes(self) -> dict[str, Any]:
        changed, self._changed = self._changed, {}
        points, self._new_points = self._new_points, {}
        gone, self._gone = self._gone, {}
        found: dict[str, Any] = {}
        if changed:
            found["models"] = [self._models[version].shown() for version in sorted(changed)]
        if points:
            found["points"] = [self._points[key] for key in sorted(points)]
        if gone:
            found["models_gone"] = sorted(gone)
        return found
