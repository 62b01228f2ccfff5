"""What the models would be if nothing ever went wrong, computed with no service at all."""

from __future__ import annotations

import json
from pathlib import Path

from propeller_fl.learn import WeightedMean
from propeller_fl.manager import ImageLibrary
from propeller_fl.model_server import initial_model
from propeller_fl.proplet import Invocation, WasmtimeRuntime
from propeller_fl.wire import (
    Format,
    Model,
    Update,
    flatten,
    model_uri,
    shapes_of,
    size_of,
    unflatten,
)

HYPERPARAMS = {"epochs": 1, "lr": 0.1, "batch_size": 16}


def models(round_ids: list[str], proplet_ids: tuple[str, ...], directory: Path) -> list[bytes]:
    """The global model after each round, from version 1 on, as it is published."""
    body = initial_model("linear:3")
    found: list[bytes] = []
    with WasmtimeRuntime(directory / "compiled") as runtime:
        module = runtime.compile(ImageLibrary({}).fetch("builtin:linear").data)
        for version, round_id in enumerate(round_ids, start=1):
            shapes = shapes_of(Model.decode(body).tensors)
            mean = WeightedMean(size_of(shapes))
            for proplet_id in sorted(proplet_ids):
                env = {
                    "ROUND_ID": round_id,
                    "PROPLET_ID": proplet_id,
                    "MODEL_URI": model_uri(version - 1),
                    "HYPERPARAMS": json.dumps(HYPERPARAMS),
                }
                files: dict[str, bytes | Path] = {
                    "model": body,
                    "data": directory / "data" / f"{proplet_id}.json",
                }
                update = Update.decode(runtime.run(module, Invocation(env, files)).stdout)
                mean.add(flatten(update.tensors, shapes), update.num_samples)
            body = Model(unflatten(mean.result(), shapes), version).encode(Format.JSON)
            found.append(body)
    return found
