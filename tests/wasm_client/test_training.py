"""The modules learn what they should: against numpy, and on real data."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.datasets import Dataset, iid, load, split
from propeller_fl.wire import Format, decode_document, decode_tensors, encode_document
from tests.wasm_client.reference import Settings, train
from tests.wasm_client.wasmtime_run import WasmtimeRunner

ENV = {"ROUND_ID": "r-1", "PROPLET_ID": "p-1", "MODEL_URI": "fl/models/global_model_v0"}

Model = dict[str, NDArray[np.float32]]


def _run(runner: WasmtimeRunner, model: Model, data: bytes, **env: str) -> dict[str, Any]:
    files = {"model": encode_document(model, Format.CBOR), "data": data}
    done = runner.run(ENV | {"FL_UPDATE_FORMAT": "cbor"} | env, files)
    assert (done.status, done.stderr) == (0, "")
    return decode_document(done.stdout)


def _hyperparams(settings: Settings) -> str:
    return json.dumps(dataclasses.asdict(settings))


def _random_model(*sizes: int, seed: int = 0) -> Model:
    random = np.random.default_rng(seed)
    layers = [
        (random.normal(0, inputs**-0.5, (inputs, outputs)), random.normal(0, 0.1, outputs))
        for inputs, outputs in itertools.pairwise(sizes)
    ]
    names = [("W", "b")] if len(layers) == 1 else [("W1", "b1"), ("W2", "b2")]
    return {
        name: array.astype(np.float32)
        for pair, layer in zip(names, layers, strict=True)
        for name, array in zip(pair, layer, strict=True)
    }


MODELS: dict[str, Model] = {
    "linear": {"w": np.array([0.12, -0.05, 1.01], np.float32), "b": np.array(0.33, np.float32)},
    "softmax": _random_model(64, 10),
    "hidden": _random_model(64, 9, 10),
}


@pytest.mark.parametrize("terms", [{}, {"l2": 0.05}, {"mu": 0.3}, {"l2": 0.01, "mu": 0.1}], ids=str)
@pytest.mark.parametrize("kind", MODELS)
def test_agrees_with_numpy_on_whole_batches(
    kind: str, terms: dict[str, float], runners: dict[str, WasmtimeRunner]
) -> None:
    """With all samples in one batch their order does not matter."""
    data = load("tumors" if kind == "linear" else "digits").take(np.arange(50))
    settings = Settings(epochs=20, lr=0.3, batch_size=50, **terms)
    runner = runners["linear" if kind == "linear" else "softmax"]

    update = _run(
        runner, MODELS[kind], data.encode(Format.CBOR), HYPERPARAMS=_hyperparams(settings)
    )
    wanted, loss, accuracy = train(MODELS[kind], data.scaled(), data.y, settings)

    assert list(update["update"]) == list(MODELS[kind])
    for name, array in decode_tensors(update["update"], "update").items():
        assert array.shape == MODELS[kind][name].shape
        np.testing.assert_allclose(array, wanted[name], rtol=1e-4, atol=3e-6, err_msg=name)
    assert update["metrics"]["loss"] == pytest.approx(loss, rel=1e-5)
    assert update["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert update["num_samples"] == 50


@pytest.mark.parametrize("kind", MODELS)
def test_agrees_with_numpy_on_small_batches(kind: str, runners: dict[str, WasmtimeRunner]) -> None:
    """With samples all alike their order does not matter either; the last batch is short."""
    data = load("tumors" if kind == "linear" else "digits").take(np.full(11, 3))
    settings = Settings(epochs=3, lr=0.2, batch_size=4)
    runner = runners["linear" if kind == "linear" else "softmax"]

    update = _run(
        runner, MODELS[kind], data.encode(Format.CBOR), HYPERPARAMS=_hyperparams(settings)
    )
    wanted, loss, _ = train(MODELS[kind], data.scaled(), data.y, settings)

    for name, array in decode_tensors(update["update"], "update").items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-4, atol=3e-6, err_msg=name)
    assert update["metrics"]["loss"] == pytest.approx(loss, rel=1e-5)


def _accuracy(runner: WasmtimeRunner, model: Model, data: Dataset) -> float:
    update = _run(runner, model, data.encode(Format.CBOR), FL_MODE="evaluate")
    assert update["update"] == {}
    return float(update["metrics"]["accuracy"])


def _trained(runner: WasmtimeRunner, model: Model, data: bytes, **env: str) -> Model:
    return decode_tensors(_run(runner, model, data, **env)["update"], "update")


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ({"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}, 0.95),
        (_random_model(64, 32, 10), 0.965),
    ],
    ids=["softmax", "hidden"],
)
def test_learns_digits(model: Model, least: float, runners: dict[str, WasmtimeRunner]) -> None:
    """Trained on three quarters of the digits, it knows the others."""
    training, test = split(load("digits"))
    hyperparams = '{"epochs":20,"lr":0.5,"batch_size":16}'

    trained = _trained(
        runners["softmax"], model, training.encode(Format.CBOR), HYPERPARAMS=hyperparams
    )

    assert _accuracy(runners["softmax"], trained, test) >= least


def test_learns_tumors(runners: dict[str, WasmtimeRunner]) -> None:
    training, test = split(load("tumors"))
    model = {"w": np.zeros(3, np.float32), "b": np.zeros((), np.float32)}

    trained = _trained(runners["linear"], model, training.encode(Format.CBOR))

    assert _accuracy(runners["linear"], trained, test) >= 0.93


def test_federated_averaging_learns_digits(runners: dict[str, WasmtimeRunner]) -> None:
    """Ten clients, equal shares, five epochs a round: 95 % within ten rounds.

    The split matters as much as the training: numpy's own run stays at 94 % on seed 0, too.
    """
    training, test = split(load("digits"), seed=2)
    parts = [training.take(part).encode(Format.CBOR) for part in iid(training, 10)]
    runner = runners["softmax"]
    model: Model = {"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}
    hyperparams = '{"epochs":5,"lr":0.5,"batch_size":16}'

    for number in range(10):
        updates = [
            _trained(
                runner,
                model,
                part,
                ROUND_ID=f"r-{number}",
                PROPLET_ID=f"p-{client}",
                HYPERPARAMS=hyperparams,
            )
            for client, part in enumerate(parts)
        ]
        model = {
            name: np.mean([update[name] for update in updates], axis=0, dtype=np.float32)
            for name in model
        }
        if _accuracy(runner, model, test) >= 0.95:
            break
    else:
        pytest.fail("95 % not reached in ten rounds")
