"""How well exercises are recognised of somebody whom no training saw: `python bench/activity.py`.

Each of ten people is left out once, and the nine others train together as
examples/experiments/activity.toml has it: real Wasm in this process and the coordinator's own mean,
no broker. Beside it the same module on the same recordings in one place, a proplet that has them
all, with as many epochs. With --forest also what seglearn's own example does, on features of its
own: a forest of 20 trees, which wants `pip install pandas`.
"""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import gettempdir
from typing import Any, Final

import numpy as np

from propeller_fl.datasets import SUBJECTS, Dataset, load_activity
from propeller_fl.learn import HeldUpdates, State, strategy
from propeller_fl.manager import ImageLibrary
from propeller_fl.model_server import initial_model
from propeller_fl.proplet import Invocation, WasmtimeRuntime
from propeller_fl.wire import Format, Model, Update, flatten, model_uri, shapes_of, unflatten

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "experiments" / "activity.toml"


@dataclass(frozen=True)
class Learned:
    """Of the windows of who was left out, the share that was recognised, by round."""

    windows: int
    accuracy: list[float]


class Trainer:
    """Lets proplets with these recordings train, and somebody else evaluate."""

    def __init__(self, people: Sequence[Dataset], hyperparams: dict[str, Any]) -> None:
        self._runtime = WasmtimeRuntime(Path(gettempdir()) / "propeller-fl-bench")
        self._module = self._runtime.compile(ImageLibrary({}).fetch("builtin:activity").data)
        self._people = [person.encode(Format.CBOR) for person in people]
        self._hyperparams = json.dumps(hyperparams)

    def learn(self, left_out: Dataset, rounds: int) -> Learned:
        test = left_out.encode(Format.CBOR)
        chosen, state = strategy("fedavg", {}), State()
        tensors = Model.decode(initial_model("activity:6x7", Format.CBOR)).tensors
        shapes = shapes_of(tensors)
        base = flatten(tensors, shapes)
        accuracy = []
        for number in range(1, rounds + 1):
            body = Model(unflatten(base, shapes), number - 1).encode(Format.CBOR)
            updates = [
                self._run(number, index, body, person, "train")
                for index, person in enumerate(self._people, 1)
            ]
            held = HeldUpdates(
                np.stack([flatten(update.tensors, shapes) for update in updates]),
                [update.num_samples for update in updates],
            )
            result = chosen.aggregate(base, held, state)
            base, state = result.model.astype(np.float32), result.state
            body = Model(unflatten(base, shapes), number).encode(Format.CBOR)
            judged = self._run(number, 0, body, test, "evaluate")
            accuracy.append(judged.metrics["accuracy"])
        return Learned(judged.num_samples, accuracy)

    def _run(self, number: int, proplet: int, model: bytes, data: bytes, mode: str) -> Update:
        env = {
            "ROUND_ID": f"activity-r{number}",
            "PROPLET_ID": f"proplet-{proplet}",
            "MODEL_URI": model_uri(number),
            "HYPERPARAMS": self._hyperparams,
            "FL_MODE": mode,
            "FL_UPDATE_FORMAT": "cbor",
        }
        invocation = Invocation(env, {"model": model, "data": data})
        return Update.decode(self._runtime.run(self._module, invocation).stdout)


def together(people: Sequence[Dataset]) -> Dataset:
    """Everybody's recordings as if they were one person's."""
    x = np.concatenate([person.x for person in people])
    return Dataset(x, np.concatenate([person.y for person in people]), people[0].x_scale)


def leave_out(index: int, rounds: int, hyperparams: dict[str, Any]) -> tuple[Learned, Learned]:
    """Federated and central, without that person; a process runs this."""
    people = load_activity()
    others = [person for number, person in enumerate(people) if number != index]
    federated = Trainer(others, hyperparams).learn(people[index], rounds)
    return federated, Trainer([together(others)], hyperparams).learn(people[index], rounds)


def forest(index: int) -> float:
    """As seglearn's example of a pipeline does it, with the same person left out."""
    from seglearn.datasets import load_watch
    from seglearn.pipe import Pype
    from seglearn.transform import FeatureRep, Segment
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.preprocessing import StandardScaler

    data = load_watch()
    of = np.asarray(data["subject"]) - 1
    steps = [
        ("segment", Segment()),
        ("features", FeatureRep()),
        ("scale", StandardScaler()),
        ("forest", RandomForestClassifier(n_estimators=20, random_state=0)),
    ]
    parts = [
        ([data["X"][i] for i in chosen], data["y"][chosen])
        for chosen in (np.flatnonzero(of != index), np.flatnonzero(of == index))
    ]
    return float(Pype(steps).fit(*parts[0]).score(*parts[1]))


def main() -> None:
    """Measure and print."""
    example = tomllib.loads(EXAMPLE.read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=example["stop"]["rounds"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--forest", action="store_true", help="also seglearn's example")
    for name, value in example["hyperparams"].items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    asked = parser.parse_args()
    hyperparams = {name: getattr(asked, name) for name in example["hyperparams"]}
    with ProcessPoolExecutor(asked.jobs) as pool:
        running = [
            pool.submit(leave_out, index, asked.rounds, hyperparams) for index in range(SUBJECTS)
        ]
        trees = [pool.submit(forest, index) for index in range(SUBJECTS * asked.forest)]
        federated, central = zip(*(one.result() for one in running), strict=True)
        of_trees = [one.result() for one in trees]
    print("| left out | windows | federated | central |" + " forest |" * asked.forest)
    print("|---|---:|---:|---:|" + "---:|" * asked.forest)
    for index in range(SUBJECTS):
        values = [federated[index].accuracy[-1], central[index].accuracy[-1]]
        values += of_trees[index : index + 1]
        cells = " | ".join(f"{value:.1%}" for value in values)
        print(f"| person {index + 1} | {federated[index].windows} | {cells} |")
    values = [mean(one.accuracy[-1] for one in found) for found in (federated, central)]
    values += [mean(of_trees)] if of_trees else []
    print(f"| mean | | {' | '.join(f'{value:.1%}' for value in values)} |\n")
    for name, found in (("federated", federated), ("central", central)):
        curve = np.mean([one.accuracy for one in found], axis=0)
        steps = ", ".join(
            f"{n}: {curve[n - 1]:.1%}"
            for n in (1, 2, 5, 10, 20, 30, 40, 60, 100)
            if n <= len(curve)
        )
        print(f"{name}, mean by round: {steps}")


if __name__ == "__main__":
    main()
