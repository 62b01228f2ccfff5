"""The module for recordings: its features, moments and training against numpy, and real wrists."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.datasets import load_activity
from propeller_fl.wire import Format, decode_document, decode_tensors, encode_document
from tests.wasm_client.reference import Settings, train
from tests.wasm_client.wasmtime_run import WasmtimeRunner

ENV = {"MODEL_URI": "fl/models/global_model_v0", "FL_UPDATE_FORMAT": "cbor"}

Array = NDArray[np.float64]


def windows_of(document: dict[str, Any]) -> tuple[Array, NDArray[np.intp]]:
    """Features [windows, 3 channels] and labels, in float64."""
    x = document["x"].astype(float) * document["x_scale"]
    y = document["y"].astype(np.intp)
    starts = [s for s in range(0, len(y) - 99, 50) if y[s] == y[s + 99]]
    windows = np.stack([x[s : s + 100] for s in starts])
    change = abs(np.diff(windows, axis=1)).mean(axis=1)
    features = [windows.mean(axis=1), np.log(windows.var(axis=1) + 2**-16)]
    return np.concatenate([*features, np.log(change + 2**-8)], axis=1), y[starts]


def moments_of(features: Array) -> Array:
    return np.stack([features.mean(axis=0), (features**2).mean(axis=0)])


def run(
    runner: WasmtimeRunner, model: dict[str, Any], data: bytes, round_id: str = "r-1", **env: str
) -> dict[str, Any]:
    files = {"model": encode_document(model, Format.CBOR), "data": data}
    done = runner.run(ENV | {"ROUND_ID": round_id, "PROPLET_ID": "p-1"} | env, files)
    assert (done.status, done.stderr) == (0, "")
    return decode_document(done.stdout)


@pytest.mark.parametrize("kind", ["first round", "with moments"])
def test_agrees_with_numpy(kind: str, runners: dict[str, WasmtimeRunner]) -> None:
    """With all windows in one batch their order does not matter."""
    person, other = load_activity()[3:5]
    document = {"x": person.x[::4], "y": person.y[::4], "x_scale": person.x_scale}
    features, labels = windows_of(document)
    model, moments = initial(), moments_of(features)
    if kind == "with moments":
        document_of_other = {"x": other.x, "y": other.y, "x_scale": other.x_scale}
        moments = moments_of(windows_of(document_of_other)[0])
        weights = np.random.default_rng(1).normal(0, 0.2, (18, 7)).astype(np.float32)
        model |= {"moments": moments.astype(np.float32), "W": weights}
    settings = Settings(epochs=20, lr=0.2, batch_size=len(labels), l2=0.01, mu=0.1)
    kept = moments.astype(np.float32)  # all that a model has room for: a variance of it is coarser
    deviation = np.sqrt(kept[1] - kept[0] * kept[0])

    update = run(
        runners["activity"],
        model,
        encode_document(document, Format.CBOR),
        HYPERPARAMS=json.dumps(dataclasses.asdict(settings)),
    )
    wanted, loss, accuracy = train(
        {name: model[name] for name in ("W", "b")},
        (features - kept[0]) / deviation,
        labels,
        settings,
    )

    learned = decode_tensors(update["update"], "update")
    assert list(learned) == ["moments", "W", "b"]
    np.testing.assert_allclose(learned["moments"], moments_of(features), rtol=1e-5)
    for name in ("W", "b"):
        np.testing.assert_allclose(learned[name], wanted[name], rtol=1e-3, atol=1e-5)
    assert update["metrics"]["loss"] == pytest.approx(loss, rel=1e-3)
    assert update["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert update["num_samples"] == len(labels)


def test_moments_averaged_by_windows_are_those_of_all(runners: dict[str, WasmtimeRunner]) -> None:
    """What makes federated features the same as central ones, with nobody else's in them."""
    people = load_activity()[2:5]
    updates = [
        run(runners["activity"], initial(), person.encode(Format.CBOR), HYPERPARAMS='{"epochs":1}')
        for person in people
    ]

    counts = np.array([update["num_samples"] for update in updates])
    moments = [decode_tensors(update["update"], "update")["moments"] for update in updates]
    averaged = np.average(moments, axis=0, weights=counts)

    features = [
        windows_of({"x": person.x, "y": person.y, "x_scale": person.x_scale})[0]
        for person in people
    ]
    np.testing.assert_allclose(averaged, moments_of(np.concatenate(features)), rtol=1e-4, atol=1e-6)


def test_it_recognises_what_somebody_does_whom_it_never_saw(
    runners: dict[str, WasmtimeRunner],
) -> None:
    """Three rounds on five people, evaluated on a sixth: by chance it would be 0.14."""
    people = [person.encode(Format.CBOR) for person in load_activity()[2:8]]
    model = initial()
    for number in range(3):
        updates = [
            run(
                runners["activity"],
                model,
                person,
                f"r-{number}",
                HYPERPARAMS='{"epochs":2,"lr":0.1,"batch_size":16}',
            )
            for person in people[1:]
        ]
        counts = [update["num_samples"] for update in updates]
        learned = [decode_tensors(update["update"], "update") for update in updates]
        model = {
            name: np.average([one[name] for one in learned], axis=0, weights=counts).astype("<f4")
            for name in model
        }

    seen = run(runners["activity"], model, people[0], FL_MODE="evaluate")

    assert seen["update"] == {}
    assert seen["metrics"]["accuracy"] > 0.65


def initial() -> dict[str, Any]:
    zeros = {"moments": (2, 18), "W": (18, 7), "b": (7,)}
    return {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
