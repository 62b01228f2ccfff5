"""What the models would be if nothing ever went wrong, computed with no service at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

IMAGE = "builtin:linear"
BASE_MODEL = initial_model("linear:3")
HYPERPARAMS = {"epochs": 1, "lr": 0.1, "batch_size": 16}


class Trainer:
    """Runs the module as a proplet does."""

    def __init__(self, runtime: WasmtimeRuntime) -> None:
        self._runtime = runtime
        self._module = runtime.compile(ImageLibrary({}).fetch(IMAGE).data)

    def update(
        self,
        round_id: str,
        proplet_id: str,
        *,
        base: bytes = BASE_MODEL,
        version: int = 0,
        data: bytes | Path,
        hyperparams: Mapping[str, Any] = HYPERPARAMS,
    ) -> bytes:
        """The update that this proplet sends, trained from ``base``, which is ``version``."""
        env = {
            "ROUND_ID": round_id,
            "PROPLET_ID": proplet_id,
            "MODEL_URI": model_uri(version),
            "HYPERPARAMS": json.dumps(dict(hyperparams)),
        }
        return self._runtime.run(
            self._module, Invocation(env, {"model": base, "data": data})
        ).stdout


@contextmanager
def trainer(cache_dir: Path) -> Iterator[Trainer]:
    with WasmtimeRuntime(cache_dir) as runtime:
        yield Trainer(runtime)


def average(base: bytes, updates: Iterable[bytes], version: int) -> bytes:
    """Model ``version`` as it is published, from updates in the order of their proplets' ids."""
    shapes = shapes_of(Model.decode(base).tensors)
    mean = WeightedMean(size_of(shapes))
    for update in map(Update.decode, updates):
        mean.add(flatten(update.tensors, shapes), update.num_samples)
    return Model(unflatten(mean.result(), shapes), version).encode(Format.JSON)


def models(
    round_ids: Sequence[str],
    proplet_ids: Sequence[str],
    directory: Path,
    hyperparams: Mapping[str, Any] = HYPERPARAMS,
) -> list[bytes]:
    """The global model after each round, from version 1 on, as it is published."""
    body = BASE_MODEL
    found: list[bytes] = []
    with trainer(directory / "compiled") as training:
        for version, round_id in enumerate(round_ids, start=1):
            updates = [
                training.update(
                    round_id,
                    proplet_id,
                    base=body,
                    version=version - 1,
                    data=directory / "data" / f"{proplet_id}.json",
                    hyperparams=hyperparams,
                )
                for proplet_id in sorted(proplet_ids)
            ]
            body = average(body, updates, version)
            found.append(body)
    return found
