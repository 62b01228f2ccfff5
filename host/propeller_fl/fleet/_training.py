"""Where updates come from: real runs of the module, and recordings of some that others send.

A recording is what the module learned from model version 0 on one share of the data, kept as the
difference to it. Who sends it in a later round sends that difference put on the round's own model:
the size and the look of a real update, and another one for each model, without a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl import datasets
from propeller_fl.fleet._plan import IMAGE, FleetPlan
from propeller_fl.manager import ImageLibrary
from propeller_fl.proplet import Invocation, Output, WasmtimeRuntime
from propeller_fl.wire import Format, Model, TaskStart, Update, encode_document

Array = NDArray[np.float32]

_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Recording:
    """One real run: what was learned, as differences to model 0, and what it said about it."""

    learned: Mapping[str, Array]
    metrics: Mapping[str, float]

    def on(self, model: Model) -> Mapping[str, Array]:
        """The tensors of an update to ``model``."""
        return {
            name: (model.tensors[name] + change).astype(np.float32)
            for name, change in self.learned.items()
        }


class Trainer:
    """Runs the module, or lets a recording stand in. Close it at the end.

    The image is compiled once; each real run has its own memory, and its share of the digits.
    """

    def __init__(self, plan: FleetPlan, cache_dir: Path) -> None:
        self._plan = plan
        self._runtime = WasmtimeRuntime(cache_dir)
        self._module = self._runtime.compile(ImageLibrary({}).fetch(IMAGE).data)
        train, _ = datasets.split(datasets.load("digits"), seed=plan.seed)
        shares = plan.partition.share_out(train, plan.recordings, plan.seed)
        self._data = [share.encode(Format.CBOR) for share in shares]
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fleet-wasm")
        self._recordings: list[Recording] = []
        self._base: tuple[bytes, Model, list[Any]] | None = None

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._runtime.close()

    def record(self, model: bytes, env: Mapping[str, str]) -> None:
        """Run the module once on each share, from ``model``."""
        base = Model.decode(model)
        runs = [self._pool.submit(self._run, env, model, data) for data in self._data]
        for run in runs:
            update = Update.decode(run.result().payload)
            learned = {name: t - base.tensors[name] for name, t in update.tensors.items()}
            self._recordings.append(Recording(learned, dict(update.metrics)))

    def really(self, index: int, start: TaskStart, model: bytes) -> Future[Output]:
        """Run the module for a proplet."""
        data = self._data[self._plan.share_of(index)]
        return self._pool.submit(self._run, start.env, model, data)

    def recorded(self, index: int, start: TaskStart, model: bytes) -> Output:
        """The update that a proplet sends without running anything."""
        share = self._plan.share_of(index)
        samples = int(self._plan.num_samples[index])
        document = {
            "round_id": start.env["ROUND_ID"],
            "proplet_id": start.env["PROPLET_ID"],
            "base_model_uri": start.env["MODEL_URI"],
            "num_samples": samples,
            "metrics": dict(self._recordings[share].metrics),
            "update": self._on(model)[share],
        }
        return Output(encode_document(document, Format.CBOR), samples)

    def mean(
        self, model: bytes, accepted: set[int], real: Mapping[int, bytes]
    ) -> Mapping[str, NDArray[np.float64]]:
        """The mean of the updates of ``accepted`` weighted by their samples, without the services'
        arithmetic. ``real`` are the documents of those that were really run."""
        base = Model.decode(model)
        sums = {name: np.zeros(tensor.shape) for name, tensor in base.tensors.items()}
        weights = np.zeros(len(self._recordings))
        total = 0.0
        for index in accepted:
            if index in real:
                update = Update.decode(real[index])
                total += update.num_samples
                for name, tensor in update.tensors.items():
                    sums[name] += update.num_samples * tensor.astype(np.float64)
            else:
                weights[self._plan.share_of(index)] += self._plan.num_samples[index]
        for weight, tensors in zip(weights, self._on(model), strict=True):
            for name, tensor in tensors.items():
                sums[name] += weight * tensor.astype(np.float64)
        total += float(weights.sum())
        return {name: value / total for name, value in sums.items()}

    def _on(self, model: bytes) -> list[Any]:
        """All recordings put on a model; that of the last one is kept."""
        if self._base is None or self._base[0] != model:
            decoded = Model.decode(model)
            self._base = model, decoded, [each.on(decoded) for each in self._recordings]
        return self._base[2]

    def _run(self, env: Mapping[str, str], model: bytes, data: bytes) -> Output:
        invocation = Invocation(dict(env), {"model": model, "data": data})
        return Output(self._runtime.run(self._module, invocation).stdout)
