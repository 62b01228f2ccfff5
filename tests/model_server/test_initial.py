"""What version 0 is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from propeller_fl.errors import ConfigError
from propeller_fl.model_server import initial_model
from propeller_fl.wire import Format, Model, shapes_of


def test_linear_is_the_seed_of_the_example() -> None:
    assert initial_model("linear:3") == b'{"w":[0.0,0.0,0.0],"b":0.0,"version":0}'


def test_softmax_starts_from_zero() -> None:
    model = Model.decode(initial_model("softmax:64x10"))
    assert shapes_of(model.tensors) == {"W": (64, 10), "b": (10,)}
    assert not any(tensor.any() for tensor in model.tensors.values())
    assert model.version == 0


def test_activity_has_three_features_a_channel_and_no_moments_yet() -> None:
    model = Model.decode(initial_model("activity:6x7"))
    assert shapes_of(model.tensors) == {"moments": (2, 18), "W": (18, 7), "b": (7,)}
    assert not any(tensor.any() for tensor in model.tensors.values())


def test_hidden_layer_by_hes_rule_the_same_each_time() -> None:
    data = initial_model("softmax:64x32x10")
    assert data == initial_model("softmax:64x32x10")
    model = Model.decode(data)
    assert shapes_of(model.tensors) == {"W1": (64, 32), "b1": (32,), "W2": (32, 10), "b2": (10,)}
    assert not model.tensors["b1"].any()
    assert np.std(model.tensors["W1"]) == pytest.approx(np.sqrt(2 / 64), rel=0.1)
    assert np.std(model.tensors["W2"]) == pytest.approx(np.sqrt(2 / 32), rel=0.2)


@pytest.mark.parametrize("form", list(Format))
def test_file(tmp_path: Path, form: Format) -> None:
    tensors = {"w": np.array([1.5], np.float32)}
    path = tmp_path / "model"
    path.write_bytes(Model(tensors).encode(form))
    assert initial_model(str(path)) == Model(tensors, 0).encode(form)


def test_file_of_version_0_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b' {"version": 0, "w": [1.50]}\n')
    assert initial_model(str(path)) == path.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("linear:0", "cannot be read"),
        ("linear:", "cannot be read"),
        ("softmax:64", "cannot be read"),
        ("activity:18", "cannot be read"),
        ("softmax:1x2x3x4", "cannot be read"),
        ("softmax:999999x999999", "too large"),
        ("/nowhere/model.json", "No such file"),
        ("", "no file to be read"),
        ("~no-such-user/model.json", "no path"),
        ("a\0b", "no path"),
    ],
)
def test_refused(wanted: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        initial_model(wanted)


@pytest.mark.parametrize(
    ("data", "why"), [(b"{", "holds no model"), (b'{"w": 1, "version": 3}', "holds version 3")]
)
def test_refused_file(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=why):
        initial_model(str(path))
