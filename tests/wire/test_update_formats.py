"""Compact updates: labels for names, halves, and differences to the base model."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from propeller_fl.errors import MessageError, TensorError
from propeller_fl.wire import (
    UPDATE_LABELS,
    Delta,
    Format,
    Tensor,
    Update,
    UpdateSender,
    decode_document,
    encode_document,
)

BASE = {"W": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}
NAMED: dict[str, Any] = {
    "round_id": "r-0001",
    "proplet_id": "proplet-1",
    "base_model_uri": "fl/models/global_model_v0",
    "num_samples": 9,
    "metrics": {"loss": 0.5},
    "update": {"W": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)},
}
LABELLED = {label: NAMED[name] for label, name in UPDATE_LABELS.items()}


def encoded(document: dict[Any, Any]) -> bytes:
    return encode_document(document, Format.CBOR)


def with_delta(delta: Any, name: str = "W") -> bytes:
    return encoded(NAMED | {"update": {name: delta}})


def packed(*values: int) -> Any:
    return np.array(values, np.uint8)


# --- labels


def test_labels_say_the_same_as_names() -> None:
    named, labelled = encoded(NAMED), encoded(LABELLED)
    first, second = Update.decode(named), Update.decode(labelled)
    assert len(labelled) < len(named) - 50
    assert first.tensors.keys() == second.tensors.keys()
    assert (first.round_id, first.proplet_id, first.base_model_uri, first.num_samples) == (
        second.round_id,
        second.proplet_id,
        second.base_model_uri,
        second.num_samples,
    )
    assert first.metrics == second.metrics
    assert UpdateSender.decode(labelled) == UpdateSender("r-0001", "proplet-1")


def test_names_and_labels_mix() -> None:
    mixed = {"proplet_id" if label == 1 else label: value for label, value in LABELLED.items()}
    assert Update.decode(encoded(mixed)).proplet_id == "proplet-1"


@pytest.mark.parametrize(
    "document",
    [
        LABELLED | {"round_id": "r-0002"},
        LABELLED | {6: 0},
        LABELLED | {-1: 0},
        LABELLED | {"metrics": {0: 1.0}},
        {True: "r-0001"},
        {1.0: "proplet-1"},
    ],
    ids=["twice", "unknown", "negative", "deeper", "true", "float"],
)
def test_other_labels_are_refused(document: dict[Any, Any]) -> None:
    for decode in (Update.decode, UpdateSender.decode):
        with pytest.raises(MessageError) as caught:
            decode(cbor2.dumps({key: None if key == 5 else v for key, v in document.items()}))
        assert caught.value.reason == "undecodable"


def test_only_updates_have_labels() -> None:
    with pytest.raises(MessageError, match="a key is not text"):
        decode_document(encoded(LABELLED))


# --- differences


def test_a_difference_in_bytes() -> None:
    """Written by hand: codes 0, 1, 37, 254 are 0, -1, -19 and 127."""
    low = (0x10, 0xE5)
    rest = (0b00010011, 0b00000000, 0b00010000)  # 1, 1, 001 and 0000000000000001, from the right
    update = Update.decode(with_delta([0.5, [4], packed(*low, *rest)], "b"))
    assert update.shapes == {"b": (4,)}
    assert update.tensors == {}
    assert update.deltas["b"].numbers("b").tolist() == [0, -1, -19, 127]
    base = {"b": np.array([1, 1, 1, 1], np.float32)}
    assert update.on(base)["b"].tolist() == [1.0, 0.5, -8.5, 64.5]


def test_whole_tensors_and_differences_mix() -> None:
    delta = Delta.between(BASE["W"] + np.float32(0.25), BASE["W"])
    document = NAMED | {"update": {"b": BASE["b"] * 3, "W": delta.document()}}
    tensors = Update.decode(encoded(document)).on(BASE)
    assert list(tensors) == ["W", "b"]
    assert tensors["b"].tolist() == [3.0, 3.0, 3.0]
    np.testing.assert_allclose(tensors["W"], BASE["W"] + 0.25, atol=0.25 / 24 + 1e-6)


finite = npst.arrays(
    np.float32,
    npst.array_shapes(max_dims=3, max_side=9),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(finite, st.integers(0, 99))
def test_what_is_written_reads_back(value: Tensor, seed: int) -> None:
    base = np.random.default_rng(seed).normal(size=value.shape).astype(np.float32)
    delta = Delta.between(value, base)

    again = Update.decode(with_delta(delta.document())).deltas["W"]

    assert (again.scale, again.shape) == (delta.scale, value.shape)
    numbers = again.numbers("W")
    difference = value - base
    assert np.abs(numbers * np.float64(again.scale) - difference).max() <= again.scale * 0.5001
    assert again.packed.size <= 0.8204 * value.size + 2, "whatever there is to code"
    found = again.added_to(base, "W")
    assert found.dtype == np.float32
    expected = base + np.float32(again.scale) * numbers.astype(np.float32)
    assert found.tobytes() == expected.astype(np.float32).tobytes()


@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(max_dims=1, max_side=300),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_any_finite_difference_is_written_in_bounded_size_or_not_at_all(value: Tensor) -> None:
    try:
        delta = Delta.between(value, np.zeros_like(value))
    except OverflowError:
        assert np.abs(value.astype(np.float64)).sum() > 3.4e38
        return
    assert delta.packed.size <= 0.8204 * value.size + 2
    assert np.abs(delta.numbers("W").astype(int)).max() <= 127
    assert Update.decode(with_delta(delta.document())).deltas["W"].size == value.size


def test_no_difference_is_no_difference() -> None:
    delta = Delta.between(BASE["W"], BASE["W"])
    assert delta.added_to(BASE["W"], "W").tobytes() == BASE["W"].tobytes()


GOOD = packed(0x10, 0x11, 0b1111)
MALFORMED = {
    "scale is whole": ([1, [4], GOOD], "bad_field"),
    "scale is NaN": ([float("nan"), [4], GOOD], "not_finite"),
    "scale is infinite": ([float("inf"), [4], GOOD], "not_finite"),
    "scale is negative": ([-0.5, [4], GOOD], "not_finite"),
    "scale is a double": ([1e39, [4], GOOD], "not_finite"),
    "dimension is nothing": ([0.5, [0], GOOD], "bad_field"),
    "dimension is negative": ([0.5, [-4], GOOD], "bad_field"),
    "dimension is a bool": ([0.5, [True], packed(0, 1)], "bad_field"),
    "dimension is huge": ([0.5, [1 << 31], GOOD], "bad_field"),
    "dimensions are huge together": ([0.5, [1 << 30] * 8, GOOD], "bad_field"),
    "nine dimensions": ([0.5, [1] * 9, packed(0, 1)], "bad_field"),
    "dimensions are no list": ([0.5, 4, GOOD], "bad_field"),
    "floats": ([0.5, [4], np.ones(3, np.float32)], "bad_field"),
    "shaped bytes": ([0.5, [4], np.ones((1, 3), np.uint8)], "bad_field"),
    "too short": ([0.5, [4], packed(0x10, 0x11)], "bad_field"),
    "too long": ([0.5, [4], packed(*[0] * 99)], "bad_field"),
    "plain bytes": ([0.5, [4], b"123"], "undecodable"),
    "four parts": ([0.5, [4], GOOD, GOOD], "bad_field"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_differences_are_refused_with_a_reason(name: str) -> None:
    value, reason = MALFORMED[name]
    with pytest.raises(MessageError) as caught:
        Update.decode(with_delta(value))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("bytes_", "what"),
    [
        (packed(0x10, 0x11, 0b0111), "does not hold 4 numbers"),
        (packed(0x10, 0x11, 0b11111), "does not hold 4 numbers"),
        (packed(0x10, 0x11, 0b1111, 0), "does not hold 4 numbers"),
        (packed(0xFF, 0x11, 0, 0b10000000, 0b111), "beyond -127 to 127"),
        (packed(0x10, 0x11, 0, 0, 0b11110001), "does not hold 4 numbers"),
    ],
    ids=["too few", "too many", "more follows", "too large", "a rest above 15"],
)
def test_numbers_that_cannot_be_unpacked_are_refused(bytes_: Any, what: str) -> None:
    update = Update.decode(with_delta([0.5, [4], bytes_], "b"))
    with pytest.raises(TensorError, match=what):
        update.on({"b": np.zeros(4, np.float32)})


def test_a_sum_that_float32_cannot_hold_is_refused() -> None:
    update = Update.decode(with_delta([3e38, [4], GOOD], "b"))
    with pytest.raises(TensorError) as caught:
        update.on({"b": np.full(4, -3e38, np.float32)})
    assert caught.value.reason == "not_finite"
    assert caught.value.field == "update.b"


def test_another_shape_is_refused_before_anything_is_unpacked() -> None:
    update = Update.decode(with_delta([0.5, [4], packed(0x10, 0x11, 0b0111)], "b"))
    with pytest.raises(TensorError) as caught:
        update.on({"b": np.zeros(5, np.float32)})
    assert caught.value.reason == "wrong_shape"


def test_json_has_no_differences() -> None:
    text = encode_document(NAMED | {"update": {"b": [0.5, [4], [16, 17, 15]]}}, Format.JSON)
    with pytest.raises(TensorError, match="rectangular"):
        Update.decode(text)


def test_a_scale_counts_as_float32() -> None:
    """Some writers give every number as a double."""
    data = cbor2.dumps(NAMED | {"update": {"b": [0.1, [4], cbor2.CBORTag(64, GOOD.tobytes())]}})
    assert Update.decode(data).deltas["b"].scale == float(np.float32(0.1))
