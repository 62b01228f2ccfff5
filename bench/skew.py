"""How many rounds each strategy needs on skewed data: `python bench/skew.py`.

Ten proplets, all taking part, train softmax regression on the digits with the built-in module:
real Wasm in this process, no broker. Everything is as in `propeller-fl demo --hidden 0`, ids of
rounds and proplets included, so that the demo with the same options goes the same way, model by
model. `--help` has what can be varied.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import gettempdir
from typing import Any, Final

import numpy as np

from propeller_fl import datasets
from propeller_fl.demo import Partition
from propeller_fl.learn import HeldUpdates, State, strategy
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
    unflatten,
)

PROPLETS: Final = tuple(f"proplet-{number}" for number in range(1, 11))
PARTITIONS: Final = {"IID": "iid", "Dirichlet 0.5": "dirichlet:0.5", "two shards": "shards:2"}


@dataclass(frozen=True)
class Choice:
    """A row of the table. ``lr`` and ``epochs`` are the proplets'."""

    strategy: str
    args: dict[str, Any] = field(default_factory=dict)
    lr: float = 0.5
    epochs: int = 5

    def __str__(self) -> str:
        args = ", ".join(f"{name} {value:g}" for name, value in self.args.items())
        return f"{self.strategy}{f' ({args})' if args else ''}"


CHOICES: Final = (
    Choice("fedavg"),
    Choice("fedavg", lr=0.1),
    Choice("fedprox", {"mu": 0.1}),
    Choice("median"),
    Choice("fedadagrad"),
    Choice("fedyogi", {"lr": 0.1}),
    Choice("fedadam"),
    Choice("fedadam", {"lr": 0.4}, lr=0.1),
    Choice("fedavgm"),
    Choice("fedavgm", {"lr": 4.0, "momentum": 0.8}, lr=0.1),
    Choice("fedavgm", {"lr": 4.0, "momentum": 0.8}, lr=0.5, epochs=1),
)


@dataclass(frozen=True)
class Course:
    """How one went: the first round at the target, or None; what a device did in a round."""

    rounds: int | None
    update_bytes: float
    fuel: float


class Federation:
    """Proplets with their data, and the test samples nobody has."""

    def __init__(self, partition: str, seed: int, runtime: WasmtimeRuntime) -> None:
        train, test = datasets.split(datasets.load("digits"), seed=seed)
        parts = Partition.parse(partition).share_out(train, len(PROPLETS), seed)
        self._data = dict(zip(PROPLETS, (p.encode(Format.CBOR) for p in parts), strict=True))
        self._test = test.encode(Format.CBOR)
        self._runtime = runtime
        self._module = runtime.compile(ImageLibrary({}).fetch("builtin:softmax").data)

    def run(self, choice: Choice, rounds: int, target: float) -> Course:
        chosen, state = strategy(choice.strategy, choice.args), State()
        tensors = Model.decode(initial_model("softmax:64x10", Format.CBOR)).tensors
        shapes = shapes_of(tensors)
        base = flatten(tensors, shapes)
        given = {"epochs": choice.epochs, "lr": choice.lr, "batch_size": 16}
        hyperparams = json.dumps(given | dict(chosen.hyperparams(given)))
        sizes, fuel = [], []
        for number in range(1, rounds + 1):
            body = Model(unflatten(base, shapes), number - 1).encode(Format.CBOR)
            vectors, weights = [], []
            for proplet in sorted(PROPLETS):
                env = {
                    "ROUND_ID": f"demo-{number:04d}",
                    "PROPLET_ID": proplet,
                    "MODEL_URI": model_uri(number - 1),
                    "HYPERPARAMS": hyperparams,
                    "FL_MODE": "train",
                    "FL_UPDATE_FORMAT": "cbor",
                }
                files = {"model": body, "data": self._data[proplet]}
                done = self._runtime.run(self._module, Invocation(env, files))
                update = Update.decode(done.stdout)
                vectors.append(flatten(update.tensors, shapes))
                weights.append(update.num_samples)
                sizes.append(len(done.stdout))
                fuel.append(done.fuel_used)
            result = chosen.aggregate(base, HeldUpdates(np.stack(vectors), weights), state)
            base, state = result.model.astype(np.float32), result.state
            if self._accuracy(base, shapes) >= target:
                return Course(number, mean(sizes), mean(fuel))
        return Course(None, mean(sizes), mean(fuel))

    def _accuracy(self, vector: Any, shapes: Any) -> float:
        env = {"ROUND_ID": "judge", "MODEL_URI": model_uri(0), "FL_MODE": "evaluate"}
        body = Model(unflatten(vector, shapes), 0).encode(Format.CBOR)
        files = {"model": body, "data": self._test}
        done = self._runtime.run(self._module, Invocation(env, files))
        return Update.decode(done.stdout).metrics["accuracy"]


def courses(partition: str, seed: int, rounds: int, target: float) -> list[Course]:
    """Every choice on one federation; a process runs this."""
    with WasmtimeRuntime(Path(gettempdir()) / "propeller-fl-bench") as runtime:
        federation = Federation(partition, seed, runtime)
        return [federation.run(choice, rounds, target) for choice in CHOICES]


def cell(found: list[Course], rounds: int) -> str:
    """Mean and spread; a seed that did not get there counts as one round more than there were."""
    reached = [course.rounds for course in found]
    counts = [count if count is not None else rounds + 1 for count in reached]
    spread = "–".join(
        str(count) if count <= rounds else f">{rounds}" for count in (min(counts), max(counts))
    )
    if None not in reached:
        return f"{mean(counts):.1f} ({spread})"
    if all(count is None for count in reached):
        return f">{rounds}"
    return f"≥ {mean(counts):.1f} ({spread})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=60, help="at most so many")
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    with ProcessPoolExecutor(asked.jobs) as pool:
        running = {
            title: [
                pool.submit(courses, partition, seed, asked.rounds, asked.target)
                for seed in range(asked.seeds)
            ]
            for title, partition in PARTITIONS.items()
        }
        done = {title: [one.result() for one in seeds] for title, seeds in running.items()}
    print(f"rounds to {asked.target:.0%}: mean of {asked.seeds} seeds (lowest–highest)\n")
    print(f"| strategy | lr | epochs | {' | '.join(PARTITIONS)} | bytes | instructions |")
    print("|---|---|---|" + "---|" * len(PARTITIONS) + "---|---|")
    least = [course for seeds in done.values() for found in seeds for course in found[:1]]
    for number, choice in enumerate(CHOICES):
        found = {title: [seed[number] for seed in seeds] for title, seeds in done.items()}
        all_of_it = [course for courses_ in found.values() for course in courses_]
        size = mean(c.update_bytes for c in all_of_it) / mean(c.update_bytes for c in least)
        fuel = mean(c.fuel for c in all_of_it) / mean(c.fuel for c in least)
        cells = " | ".join(cell(courses_, asked.rounds) for courses_ in found.values())
        print(f"| {choice} | {choice.lr:g} | {choice.epochs} | {cells} | {size:.2f} | {fuel:.2f} |")
    print("\nlr and epochs: hyperparameters of the proplets")
    print("bytes and instructions: of an update, beside FedAvg's in the first row")


if __name__ == "__main__":
    main()
