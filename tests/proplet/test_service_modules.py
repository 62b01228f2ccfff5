"""The modules we ship, on the data we ship, by way of a proplet."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np
import pytest

from propeller_fl import datasets
from propeller_fl.wire import Format, Model, Update, format_of

from .conftest import HostMaker
from .other_side import MODEL_URI, OtherSide

HYPERPARAMS = '{"epochs":5,"lr":0.5,"batch_size":16}'


def module(name: str) -> bytes:
    return (
        importlib.resources.files("propeller_fl").joinpath("modules", f"{name}.wasm").read_bytes()
    )


@pytest.fixture
def softmax_model(other: OtherSide) -> Model:
    """Version 0 for the digits, published."""
    model = Model({"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}, 0)
    other.publish(other.topics.absolute(MODEL_URI), model.encode(Format.CBOR), retain=True)
    return model


def test_linear_learns_the_tumors(other: OtherSide, host: HostMaker) -> None:
    host(data="tumors")
    other.run(module("linear"), HYPERPARAMS=HYPERPARAMS)

    update = Update.decode(other.wait_for_updates()[0])

    assert update.proplet_id == "p-1"
    assert update.base_model_uri == MODEL_URI
    assert update.num_samples == 426
    assert update.metrics["accuracy"] > 0.9
    assert {name: array.shape for name, array in update.tensors.items()} == {"w": (3,), "b": ()}


def test_softmax_learns_the_digits_and_answers_in_cbor(
    other: OtherSide, host: HostMaker, softmax_model: Model
) -> None:
    host(data="digits")
    url = other.publish_image(module("softmax"))
    other.give(other.task(url, HYPERPARAMS=HYPERPARAMS, FL_UPDATE_FORMAT="cbor"))

    sent = other.wait_for_updates()[0]

    assert format_of(sent) is Format.CBOR
    update = Update.decode(sent)
    _, test = datasets.split(datasets.load("digits"))
    scores = test.scaled() @ update.tensors["W"] + update.tensors["b"]
    assert (scores.argmax(axis=1) == test.y).mean() > 0.9


def test_evaluation_has_metrics_and_no_tensors(
    other: OtherSide, host: HostMaker, softmax_model: Model
) -> None:
    host(data="digits")
    url = other.publish_image(module("softmax"))
    other.give(other.task(url, FL_MODE="evaluate"))

    sent = other.wait_for_updates()[0]
    other.answer(sent)

    update = Update.decode(sent)
    assert update.tensors == {}
    assert update.metrics["loss"] == pytest.approx(np.log(10), rel=1e-5)
    assert other.wait_for_result().error == ""


def test_linear_reads_json_data(other: OtherSide, host: HostMaker, tmp_path: Path) -> None:
    part = datasets.load("tumors").take(np.arange(50))
    (tmp_path / "p-1.json").write_bytes(part.encode(Format.JSON))
    host(data=str(tmp_path))
    other.run(module("linear"), HYPERPARAMS=HYPERPARAMS)

    assert Update.decode(other.wait_for_updates()[0]).num_samples == 50


def test_module_that_cannot_use_the_data_says_why(other: OtherSide, host: HostMaker) -> None:
    host(data="digits")
    other.run(module("linear"), HYPERPARAMS=HYPERPARAMS)

    assert "64" in other.wait_for_result().error
