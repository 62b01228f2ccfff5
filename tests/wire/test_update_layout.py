"""An update read by a layout is what it is without one, and nothing more gets in."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propeller_fl.wire import Format, Update, UpdateLayouts, encode_document, flatten

_names = st.text(min_size=1, max_size=9).filter(str.isprintable)
_ids = st.text("abcXYZ019._-", min_size=1, max_size=6).filter(lambda text: text.strip("."))
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_singles = st.floats(-(2.0**40), 2.0**40, width=32)
_shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@st.composite
def _arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(_shapes)
    size = int(np.prod(shape))
    values = draw(st.lists(_singles, min_size=size, max_size=size))
    return np.array(values, np.float32).reshape(shape)


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    members = {
        "round_id": draw(_ids),
        "proplet_id": draw(_ids),
        "base_model_uri": draw(st.text(max_size=9)),
        "num_samples": draw(st.integers(1, 2**43)),
        "metrics": draw(st.dictionaries(_names, _numbers, max_size=3)),
        "update": draw(st.dictionaries(_names, _arrays(), max_size=3)),
    }
    return {name: members[name] for name in draw(st.permutations(list(members)))}


def _encode(document: dict[str, Any]) -> bytes:
    return encode_document(document, Format.CBOR)


def _learned(data: bytes) -> UpdateLayouts:
    layouts = UpdateLayouts()
    layouts.learn(data, Update.decode(data))
    return layouts


def _agree(layouts: UpdateLayouts, data: bytes) -> bool:
    """Whether it was read by a layout; if so, as without."""
    found = layouts.read(data)
    if found is None:
        return False
    expected = Update.decode(data)  # which must not raise either
    assert found.round_id == expected.round_id
    assert found.proplet_id == expected.proplet_id
    assert found.base_model_uri == expected.base_model_uri
    assert found.num_samples == expected.num_samples
    assert repr(found.metrics) == repr(expected.metrics)
    assert list(found.shapes.items()) == list(expected.shapes.items())
    assert found.vector.tobytes() == flatten(expected.tensors, expected.shapes).tobytes()
    return True


def _another(document: dict[str, Any], draw: st.DataObject) -> dict[str, Any]:
    """With other values of the same lengths."""
    arrays = {
        name: draw.draw(st.permutations(list(array.ravel())).map(np.array)).reshape(array.shape)
        for name, array in document["update"].items()
    }
    return {
        **document,
        "proplet_id": "z" * len(document["proplet_id"]),
        "metrics": {name: draw.draw(_numbers) for name in document["metrics"]},
        "update": arrays,
    }


@settings(deadline=None)
@given(_documents(), st.data())
def test_the_next_update_of_the_same_layout_is_read(
    document: dict[str, Any], draw: st.DataObject
) -> None:
    layouts = _learned(_encode(document))
    assert _agree(layouts, _encode(_another(document, draw)))


@settings(deadline=None, max_examples=300)
@given(_documents(), st.data())
def test_a_damaged_update_is_read_as_without_or_not_at_all(
    document: dict[str, Any], draw: st.DataObject
) -> None:
    data = bytearray(_encode(document))
    layouts = _learned(bytes(data))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    _agree(layouts, bytes(data))


def _document(**changes: Any) -> dict[str, Any]:
    return {
        "round_id": "r-1",
        "proplet_id": "p-1",
        "base_model_uri": "fl/models/global_model_v0",
        "num_samples": 100,
        "metrics": {"loss": 0.5},
        "update": {"W": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)},
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"proplet_id": "a/b"},
        {"proplet_id": "..."},
        {"round_id": "r 1"},
        {"num_samples": 1},  # in one byte less
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"gain": 0.5}},
        {"update": {"W": np.full((2, 3), np.nan), "b": np.ones(2)}},
        {"update": {"W": np.zeros((3, 2)), "b": np.ones(2)}},
        {"update": {"V": np.zeros((2, 3)), "b": np.ones(2)}},
    ],
)
def test_what_differs_is_left_to_the_full_reader(changes: dict[str, Any]) -> None:
    layouts = _learned(_encode(_document()))
    assert layouts.read(_encode(_document(num_samples=99))) is not None
    assert layouts.read(_encode(_document(**changes))) is None


def test_a_sum_of_squares_that_overflows_is_left_to_the_full_reader() -> None:
    layouts = _learned(_encode(_document()))
    large = {"W": np.full((2, 3), 3e38, np.float32), "b": np.ones(2, np.float32)}
    data = _encode(_document(update=large))
    assert layouts.read(data) is None
    assert Update.decode(data).tensors["W"][0, 0] == np.float32(3e38)


@pytest.mark.parametrize(
    "document",
    [
        _document(update={"W": [1.5, 2.5]}),  # no typed array
        _document(update={"W": np.zeros(3, np.uint8)}),
        _document(note="more than there should be"),
        _document(metrics={"count": 3}),
        _document(base_model_uri="\N{GREEK SMALL LETTER MU}" * 200),
    ],
)
def test_an_unusual_update_is_never_learned(document: dict[str, Any]) -> None:
    data = _encode(document)
    assert _learned(data).read(data) is None


def test_a_member_that_is_there_twice_is_never_learned() -> None:
    pairs = b"".join(cbor2.dumps(name) + cbor2.dumps(0.5) for name in ("loss", "loss"))
    text = _encode(_document(metrics={}))
    for data in (
        text.replace(b"\x67metrics\xa0", b"\x67metrics\xa2" + pairs),
        b"\xa7" + text[1:] + cbor2.dumps("metrics") + cbor2.dumps({}),
    ):
        layouts = _learned(data)
        expected = Update.decode(data)
        found = layouts.read(data)
        assert found is None or found.metrics == expected.metrics


def test_json_is_never_learned() -> None:
    data = encode_document(_document(), Format.JSON)
    assert _learned(data).read(data) is None


def test_a_layout_that_serves_outlives_some_of_another() -> None:
    ours, others = _encode(_document()), _encode(_document(metrics={"gain": 0.5}))
    layouts = _learned(ours)
    assert layouts.read(ours) is not None
    for _ in range(3):
        assert layouts.read(others) is None
        layouts.learn(others, Update.decode(others))
    assert layouts.read(ours) is not None
    for _ in range(20):
        if layouts.read(others) is None:
            layouts.learn(others, Update.decode(others))
    assert layouts.read(others) is not None
    assert layouts.read(ours) is None


def test_layouts_are_forgotten_when_there_are_too_many() -> None:
    layouts = UpdateLayouts()
    documents = [_encode(_document(update={"W": np.ones(n, np.float32)})) for n in range(1, 100)]
    for data in documents:
        layouts.learn(data, Update.decode(data))
    assert layouts.read(documents[0]) is None
    assert layouts.read(documents[-1]) is not None
