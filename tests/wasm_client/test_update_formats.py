"""What the modules write in each update format, against numpy and the host's own writer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from propeller_fl.datasets import load
from propeller_fl.wire import (
    Delta,
    Format,
    Model,
    Tensors,
    Update,
    UpdateFormat,
    encode_document,
    size_of,
)
from tests.wasm_client.golden import FOLDER, Case
from tests.wasm_client.wasmtime_run import WasmtimeRunner

KINDS = ("linear", "softmax", "softmax-hidden")


def base_of(case: Case) -> Tensors:
    return Model.decode(case.files["model"]).tensors


def expected(case: Case) -> Tensors:
    """The same run's float32 update."""
    kind = case.name.rpartition("-train-")[0]
    return Update.decode(Case.load(FOLDER / f"{kind}-train-cbor").stdout).tensors


@pytest.mark.parametrize("kind", KINDS)
def test_float16_is_the_nearest_half(kind: str) -> None:
    case = Case.load(FOLDER / f"{kind}-train-float16")
    update = Update.decode(case.stdout)
    for name, array in expected(case).items():
        wanted = array.astype(np.float16).astype(np.float32) if array.ndim else array
        assert update.tensors[name].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_int8_delta_is_what_the_host_would_write(kind: str) -> None:
    case = Case.load(FOLDER / f"{kind}-train-int8-delta")
    update, base = Update.decode(case.stdout), base_of(case)
    whole = update.on(base)
    for name, array in expected(case).items():
        if array.ndim == 0:
            assert update.tensors[name] == array
            continue
        delta, wanted = update.deltas[name], Delta.between(array, base[name])
        assert (delta.scale, delta.shape) == (wanted.scale, wanted.shape)
        assert delta.packed.tobytes() == wanted.packed.tobytes()
        np.testing.assert_allclose(whole[name], array, atol=delta.scale * 0.51)


def test_a_tensor_beyond_the_format_is_written_as_float32() -> None:
    case = Case.load(FOLDER / "linear-float16-with-a-tensor-beyond-it")
    array = Update.decode(case.stdout).tensors["w"]
    assert array[:2].tolist() == [np.float32(65519.9), -65520]
    assert array[2] != np.float16(array[2])
    case = Case.load(FOLDER / "linear-int8-delta-beyond-float32")
    update = Update.decode(case.stdout)
    assert not update.deltas
    assert update.tensors["w"].tolist() == [np.float32(1.5e38)] * 3


def _mlp(*sizes: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    inputs, hidden, outputs = sizes
    return {
        "W1": (random.normal(size=(inputs, hidden)) * (2 / inputs) ** 0.5).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "W2": (random.normal(size=(hidden, outputs)) * (2 / hidden) ** 0.5).astype(np.float32),
        "b2": np.zeros(outputs, np.float32),
        "version": 0,
    }


SOFTMAX = {"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32), "version": 0}


@pytest.mark.parametrize(
    ("model", "parameters", "most"),
    [(SOFTMAX, 650, 700), (_mlp(64, 32, 10), 2410, 2500)],
    ids=["650", "2410"],
)
@pytest.mark.parametrize(
    ("round_id", "proplet_id"),
    [("r-0001", "proplet-1"), ("round-20261128-0415a", "greenhouse-7-north-3")],
    ids=["short ids", "ids of 20"],
)
def test_an_update_in_int8_delta_fits(
    round_id: str,
    proplet_id: str,
    model: dict[str, Any],
    parameters: int,
    most: int,
    runners: dict[str, WasmtimeRunner],
) -> None:
    """Also after a first round, where the change is least peaked, and of one class alone."""
    digits = load("digits")
    parts = [digits.take(np.arange(135)), digits.take(np.flatnonzero(digits.y == 3)[:135])]
    for part in parts:
        files = {
            "model": encode_document(model, Format.CBOR),
            "data": part.encode(Format.CBOR),
        }
        env = {
            "ROUND_ID": round_id,
            "PROPLET_ID": proplet_id,
            "MODEL_URI": "fl/models/global_model_v0",
            "HYPERPARAMS": '{"epochs":5,"lr":0.5,"batch_size":16}',
            "FL_UPDATE_FORMAT": UpdateFormat.INT8_DELTA.value,
        }
        done = runners["softmax"].run(env, files)
        assert done.status == 0, done.stderr
        update = Update.decode(done.stdout)
        assert size_of(update.shapes) == parameters
        assert len(done.stdout) <= most
