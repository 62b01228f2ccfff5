"""The same inputs give the same models as Flower 1.42's strategies, both of its interfaces.

Flower has an environment of its own, `make flower`; without it these tests are skipped.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.errors import StrategyError
from propeller_fl.learn import HeldUpdates, State, strategy

HERE: Final = Path(__file__).parent
PYTHON: Final = HERE.parents[1] / ".venv-flower" / "bin" / "python"
RELATIVE: Final = 1e-6
SEEDS: Final = 10  # inputs of each strategy and interface
ROUNDS: Final = 5

pytestmark = [
    pytest.mark.flower,
    pytest.mark.skipif(
        not (PYTHON.parent.parent / "installed").exists(),
        reason="Flower is not installed beside us: `make flower`",
    ),
]

Case = dict[str, Any]


def settings(name: str, random: np.random.Generator) -> tuple[Case, dict[str, tuple[str, Case]]]:
    """Arguments of ours, and by interface the class of Flower's with its arguments."""
    lr, tau = float(10 ** random.uniform(-2, 0.3)), float(10 ** random.uniform(-4, -1))
    beta1, beta2 = float(random.uniform(0, 0.99)), float(random.uniform(0.5, 0.999))
    f, m = int(random.integers(0, 3)), int(random.integers(1, 5))
    cut = float(random.uniform(0, 0.49))
    adaptive = {"lr": lr, "tau": tau}
    theirs = {"eta": lr, "tau": tau}
    betas, their_betas = {"beta1": beta1, "beta2": beta2}, {"beta_1": beta1, "beta_2": beta2}
    momentum = {"server_learning_rate": lr, "server_momentum": beta1}

    def same(kind: str, args: Case) -> dict[str, tuple[str, Case]]:
        return {"older": (kind, args), "newer": (kind, args)}

    match name:
        case "fedavg":
            return {}, same("FedAvg", {})
        case "fedprox":
            return {"mu": 0.1}, same("FedProx", {"proximal_mu": 0.1})
        case "fedavgm":
            return {"lr": lr, "momentum": beta1}, same("FedAvgM", momentum)
        case "fedadagrad":
            return adaptive, same("FedAdagrad", theirs)
        case "fedadam":
            return adaptive | betas, same("FedAdam", theirs | their_betas)
        case "fedyogi":
            return adaptive | betas, same("FedYogi", theirs | their_betas)
        case "median":
            return {}, same("FedMedian", {})
        case "trimmed_mean":
            return {"cut": cut}, same("FedTrimmedAvg", {"beta": cut})
        case "krum":
            return {"f": f}, {
                "older": ("Krum", {"num_malicious_clients": f}),
                "newer": ("Krum", {"num_malicious_nodes": f}),
            }
        case "multi_krum":
            return {"f": f, "m": m}, {
                "older": ("Krum", {"num_malicious_clients": f, "num_clients_to_keep": m}),
                "newer": ("MultiKrum", {"num_malicious_nodes": f, "num_nodes_to_select": m}),
            }
    raise AssertionError(name)


NAMES: Final = (
    "fedavg fedprox fedavgm fedadagrad fedadam fedyogi median trimmed_mean krum multi_krum"
).split()


def shapes_of(random: np.random.Generator) -> list[list[int]]:
    """Some arrays of rank 0 to 3."""
    ranks = random.integers(0, 4, size=random.integers(1, 5))
    return [[int(n) for n in random.integers(1, 7, size=rank)] for rank in ranks]


def inputs(random: np.random.Generator, name: str, seed: int) -> tuple[list[list[int]], Case]:
    shapes = [*shapes_of(random), *([[33_000]] if seed == 0 else [])]  # larger than a block
    size = sum(int(np.prod(shape)) for shape in shapes)
    clients = int(random.integers(9 if "krum" in name else 1, 13))
    scale = 10 ** random.uniform(-3, 2)
    base = random.normal(size=size) * scale
    moved = base + random.normal(size=(ROUNDS, clients, size)) * scale * 10 ** random.uniform(-3, 0)
    return shapes, {
        "base": base.astype(np.float32),
        "updates": moved.astype(np.float32),
        "weights": random.integers(1, 10 ** random.integers(1, 6), size=(ROUNDS, clients)),
    }


def ask(cases: list[Case], arrays: dict[str, Any], directory: Path) -> dict[str, Any]:
    questions, answers = directory / "questions.npz", directory / "answers.npz"
    np.savez(questions, cases=np.array(json.dumps(cases)), **arrays)
    subprocess.run(
        [PYTHON, HERE / "flower" / "ask_flower.py", questions, answers], check=True, timeout=100
    )
    with np.load(answers) as found:
        return dict(found)


def ours(name: str, args: Case, base: NDArray[np.float32], given: dict[str, Any]) -> NDArray[Any]:
    chosen, state, found = strategy(name, args), State(), []
    for vectors, weights in zip(given["updates"], given["weights"], strict=True):
        updates = HeldUpdates(vectors, [int(weight) for weight in weights])
        result = chosen.aggregate(base, updates, state)
        base, state = result.model.astype(np.float32), result.state
        found.append(base)
    return np.array(found)


def test_the_same_inputs_give_the_same_models(tmp_path: Path) -> None:
    cases: list[Case] = []
    arrays: dict[str, Any] = {}
    expected: dict[str, NDArray[Any]] = {}
    for name in NAMES:
        for seed in range(SEEDS):
            random = np.random.default_rng([seed, NAMES.index(name)])
            args, flowers = settings(name, random)
            shapes, given = inputs(random, name, seed)
            model = ours(name, args, given["base"], given)
            for api, (kind, kind_args) in flowers.items():
                key = f"{name}-{seed}-{api}"
                arrays |= {f"{key}.{what}": array for what, array in given.items()}
                case = {"name": key, "api": api, "strategy": kind, "args": kind_args}
                cases.append(case | {"shapes": shapes})
                expected[key] = model
    answers = ask(cases, arrays, tmp_path)
    assert answers.keys() == expected.keys(), [v for k, v in answers.items() if "error" in k]
    for key, model in expected.items():
        np.testing.assert_allclose(model, answers[key], rtol=RELATIVE, atol=0, err_msg=key)


def degenerate() -> dict[str, tuple[Case, Case]]:
    """Where Flower divides by zero: its case, and what of ours is to refuse the same."""
    still = {"updates": np.zeros((1, 3, 4), np.float32), "weights": np.ones((1, 3), int)}
    nothing = still | {"weights": np.zeros((1, 3), int)}
    return {
        "no-samples": ({"strategy": "FedAvg", "args": {}} | nothing, {"name": "fedavg"}),
        "no-samples-adam": ({"strategy": "FedAdam", "args": {}} | nothing, {"name": "fedadam"}),
        "tau": (
            {"strategy": "FedAdam", "args": {"tau": 0.0}} | still,
            {"name": "fedadam", "args": {"tau": 0}},
        ),
        "tau-yogi": (
            {"strategy": "FedYogi", "args": {"tau": 0.0}} | still,
            {"name": "fedyogi", "args": {"tau": 0}},
        ),
        "tau-adagrad": (
            {"strategy": "FedAdagrad", "args": {"tau": 0.0}} | still,
            {"name": "fedadagrad", "args": {"tau": 0}},
        ),
        "beta1": (
            {"strategy": "FedAdam", "args": {"beta_1": 1.0}} | still,
            {"name": "fedadam", "args": {"beta1": 1}},
        ),
    }


def test_where_flower_divides_by_zero_we_refuse(tmp_path: Path) -> None:
    base = np.zeros(4, np.float32)
    cases: list[Case] = []
    arrays: dict[str, Any] = {}
    for name, (theirs, _) in degenerate().items():
        cases.append({"name": name, "api": "older", "shapes": [[4]]} | theirs)
        arrays |= {f"{name}.base": base}
        arrays |= {f"{name}.{what}": cases[-1].pop(what) for what in ("updates", "weights")}
    answers = ask(cases, arrays, tmp_path)
    for name, (theirs, mine) in degenerate().items():
        told = str(answers.get(f"{name}.error", ""))
        assert "ZeroDivision" in told or not np.isfinite(answers[name]).all(), name
        with pytest.raises((StrategyError, ValueError)):
            ours(mine["name"], mine.get("args", {}), base, theirs)
