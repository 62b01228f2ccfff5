"""What an update weighs in each format, and how many rounds learning takes with it.

    python bench/formats.py [--seeds 1,2,3] [--rounds 100]
    python bench/formats.py --feedback

Ten clients train the built-in softmax module on the digits, each for five epochs a round at a
learning rate of 0.5 in batches of 16, as they would on any runtime; the coordinator's own decoder
and mean do the rest. Printed are the largest update of all and, for each seed, the first round with
95 % of the test samples right; `-` where there was none within the given number of rounds.

With --feedback, int8-delta alone and with a memory that the modules do not have: each client adds
what quantising dropped in one round to what it learns in the next (error feedback).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from propeller_fl.datasets import Dataset, iid, load, shards, split
from propeller_fl.learn import WeightedMean
from propeller_fl.manager import ImageLibrary
from propeller_fl.model_server import initial_model
from propeller_fl.proplet import Invocation, WasmtimeRuntime
from propeller_fl.wire import (
    Delta,
    Format,
    Model,
    Tensors,
    Update,
    UpdateFormat,
    flatten,
    model_uri,
    shapes_of,
    size_of,
    unflatten,
)

CLIENTS = 10
HYPERPARAMS = '{"epochs":5,"lr":0.5,"batch_size":16}'
TARGET = 0.95

Run = Callable[[dict[str, str], bytes, bytes], bytes]


@dataclass(frozen=True)
class Found:
    """One training: its largest update in bytes, and the round that reached the target."""

    largest: int
    rounds: int | None


class Feedback:
    """Quantises one client's float32 updates, with what was dropped before added to each."""

    def __init__(self) -> None:
        self._dropped: dict[str, np.ndarray] = {}

    def send(self, trained: Tensors, base: Tensors) -> Tensors:
        """What arrives of ``trained``."""
        arrived: Tensors = {}
        for name, array in trained.items():
            wanted = array + self._dropped.get(name, np.float32(0))
            arrived[name] = Delta.between(wanted, base[name]).added_to(base[name], name)
            self._dropped[name] = wanted - arrived[name]
        return arrived


def train(
    run: Run,
    kind: str,
    form: UpdateFormat,
    parts: list[Dataset],
    test: Dataset,
    most: int,
    feedback: bool = False,
) -> Found:
    """Rounds until the target is reached, at most ``most``."""
    memories = [Feedback() for _ in parts]
    model = Model.decode(initial_model(kind, Format.CBOR))
    shapes = shapes_of(model.tensors)
    data = [part.encode(Format.CBOR) for part in parts]
    test_data = test.encode(Format.CBOR)
    largest = 0
    for version in range(most):
        uri, body = model_uri(version), model.encode(Format.CBOR)
        mean = WeightedMean(size_of(shapes))
        for client, own in enumerate(data, start=1):
            env = {
                "ROUND_ID": f"r-{version + 1:04d}",
                "PROPLET_ID": f"proplet-{client}",
                "MODEL_URI": uri,
                "HYPERPARAMS": HYPERPARAMS,
                "FL_UPDATE_FORMAT": form.value,
            }
            written = run(env, body, own)
            largest = max(largest, len(written))
            update = Update.decode(written)
            tensors = update.on(model.tensors)
            if feedback:
                tensors = memories[client - 1].send(tensors, model.tensors)
            mean.add(flatten(tensors, shapes), update.num_samples)
        model = Model(unflatten(mean.result(), shapes), version + 1)
        env = {"ROUND_ID": "e", "MODEL_URI": uri, "HYPERPARAMS": "{}", "FL_MODE": "evaluate"}
        tested = Update.decode(run(env, model.encode(Format.CBOR), test_data))
        if tested.metrics["accuracy"] >= TARGET:
            return Found(largest, version + 1)
    return Found(largest, None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--feedback", action="store_true")
    options = parser.parse_args()
    forms = [UpdateFormat.CBOR] if options.feedback else list(UpdateFormat)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    digits = load("digits")
    print(f"{'parameters':>10} {'samples':<8} {'format':<10} {'bytes':>7}  rounds to 95 %")
    with WasmtimeRuntime() as runtime:
        module = runtime.compile(ImageLibrary({}).fetch("builtin:softmax").data)

        def run(env: dict[str, str], model: bytes, data: bytes) -> bytes:
            return runtime.run(module, Invocation(env, {"model": model, "data": data})).stdout

        for kind, size in (("softmax:64x10", 650), ("softmax:64x32x10", 2410)):
            for name, share_out in (("IID", iid), ("2 shards", shards)):
                for form in forms:
                    found = []
                    for seed in seeds:
                        training, test = split(digits, seed=seed)
                        indices = share_out(training, CLIENTS, seed=seed)
                        parts = [training.take(np.asarray(part)) for part in indices]
                        found.append(
                            train(run, kind, form, parts, test, options.rounds, options.feedback)
                        )
                    rounds = " ".join(f"{one.rounds or '-':>3}" for one in found)
                    largest = max(one.largest for one in found)
                    label = "feedback" if options.feedback else form
                    weight = "" if options.feedback else f"{largest:,}"
                    print(f"{size:>10,} {name:<8} {label:<10} {weight:>7}  {rounds}", flush=True)


if __name__ == "__main__":
    main()
