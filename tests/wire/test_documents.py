"""Codecs and tensors: round trips change no bit, and nothing malformed gets through."""

from __future__ import annotations

import contextlib
import json
import warnings

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from propeller_fl.errors import MessageError
from propeller_fl.wire import (
    Format,
    Model,
    check_shapes,
    decode_document,
    flatten,
    format_of,
    shapes_of,
    unflatten,
)

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4), elements=FINITE)
NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20).filter(
    lambda name: name != "version"
)


@pytest.mark.parametrize("form", list(Format))
@given(tensors=st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=4), version=st.integers(0, 9))
def test_a_model_survives_the_wire_bit_by_bit(
    form: Format, tensors: dict[str, np.ndarray], version: int
) -> None:
    data = Model(tensors, version).encode(form)
    assert format_of(data) is form
    model = Model.decode(data)
    assert model.version == version
    assert list(model.tensors) == list(tensors)
    for name, array in tensors.items():
        assert model.tensors[name].dtype == np.float32
        assert model.tensors[name].shape == array.shape
        assert model.tensors[name].tobytes() == array.tobytes()


@given(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=4))
def test_flattening_is_undone(tensors: dict[str, np.ndarray]) -> None:
    shapes = shapes_of(tensors)
    again = unflatten(flatten(tensors, shapes), shapes)
    assert {n: a.tobytes() for n, a in again.items()} == {
        n: a.tobytes() for n, a in tensors.items()
    }


def test_the_seeds_model_reads_and_writes_as_it_stands() -> None:
    text = b'{"w":[0.12,-0.05,1.01],"b":0.33,"version":3}'
    assert Model.decode(text).encode(Format.JSON) == text


@pytest.mark.parametrize(
    ("dtype", "tag"),
    [("u1", 64), (">u2", 65), ("<u2", 69), ("i1", 72), ("<i2", 77), ("<f2", 84), ("<f4", 85),
     (">f4", 81), ("<f8", 86), (">f8", 82)],
)  # fmt: skip
def test_typed_arrays_of_other_widths_are_read(dtype: str, tag: int) -> None:
    data = cbor2.dumps({"w": cbor2.CBORTag(tag, np.array([1, 2, 3], dtype).tobytes())})
    assert Model.decode(data).tensors["w"].tolist() == [1.0, 2.0, 3.0]


def tagged(tag: int, value: object) -> bytes:
    return cbor2.dumps({"w": cbor2.CBORTag(tag, value)})


FLOATS = cbor2.CBORTag(85, bytes(8))
MALFORMED = {
    "empty": (b"", "undecodable"),
    "cut": (b'{"w":[1', "undecodable"),
    "not an object": (b"[1]", "undecodable"),
    "not utf-8": (b'{"w":"\xff"}', "undecodable"),
    "deep JSON": (b'{"w":' + b"[" * 100_000, "undecodable"),
    "deep CBOR": (b"\xa1\x61w" + b"\x81" * 100_000, "undecodable"),
    "endless CBOR": (b"\xbf", "undecodable"),
    "huge CBOR length": (b"\xa1\x61w\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "undecodable"),
    "key not text": (b"\xa1\x01\x02", "undecodable"),
    "half an element": (tagged(85, b"abc"), "undecodable"),
    "no byte string": (tagged(85, [1]), "undecodable"),
    "shape too large": (tagged(40, [[3], FLOATS]), "undecodable"),
    "shape negative": (tagged(40, [[-1, -2], FLOATS]), "undecodable"),
    "shape of nothing": (tagged(40, [1]), "undecodable"),
    "unknown tag": (tagged(4711, 1), "undecodable"),
    "date": (tagged(0, "2013-03-21T20:04:00Z"), "undecodable"),
    "number without bounds": (tagged(2, b"\xff" * 3000), "undecodable"),
    "reference to itself": (tagged(28, [cbor2.CBORTag(29, 0)]), "undecodable"),
    "undefined": (cbor2.dumps({"w": cbor2.undefined}), "undecodable"),
    "inner key not text": (cbor2.dumps({"w": {1: 2}}), "undecodable"),
    "more after CBOR": (cbor2.dumps({"w": 1.0}) + b"x", "undecodable"),
    "more after JSON": (b'{"w":1} {', "undecodable"),
    "ragged": (b'{"w":[[1,2],[3]]}', "bad_field"),
    "text": (b'{"w":"1"}', "bad_field"),
    "boolean": (b'{"w":[true]}', "bad_field"),
    "boolean among numbers": (b'{"w":[true,2]}', "bad_field"),
    "one long text among many": (b'{"w":["%b"%b]}' % (b"x" * 9000, b',""' * 9000), "bad_field"),
    "nothing": (b'{"w":[[],[]]}', "bad_field"),
    "nothing in CBOR": (tagged(40, [[0, 3], cbor2.CBORTag(85, b"")]), "bad_field"),
    "null": (b'{"w":null}', "bad_field"),
    "no tensor": (b'{"version":1}', "bad_field"),
    "no name": (b'{"":1}', "bad_field"),
    "NaN": (b'{"w":[NaN]}', "not_finite"),
    "infinity": (b'{"w":[1e999]}', "not_finite"),
    "beyond float32": (b'{"w":[1e39]}', "not_finite"),
    "whole and beyond float64": (b'{"w":[1%b]}' % (b"0" * 400), "not_finite"),
    "NaN in CBOR": (tagged(85, np.array([np.nan], "<f4").tobytes()), "not_finite"),
    "version not whole": (b'{"w":1,"version":1.5}', "bad_field"),
    "version negative": (b'{"w":1,"version":-1}', "bad_field"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_models_are_refused_with_a_reason(name: str) -> None:
    data, reason = MALFORMED[name]
    with pytest.raises(MessageError) as caught:
        Model.decode(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("size", [1, 5, 100_000])
@pytest.mark.parametrize("last", [3e38, np.inf, -np.inf, np.nan])
def test_numbers_whose_squares_are_beyond_float32_are_looked_at_quietly(
    size: int, last: float
) -> None:
    array = np.full(size, -3e38, np.float32)
    array[-1] = last
    data = Model({"w": array}).encode(Format.CBOR)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if np.isfinite(last):
            assert Model.decode(data).tensors["w"].tobytes() == array.tobytes()
        else:
            with pytest.raises(MessageError, match="NaN, infinity"):
                Model.decode(data)


def test_whole_numbers_beyond_64_bits_are_read() -> None:
    assert Model.decode(b'{"w":[100000000000000000000]}').tensors["w"].tolist() == [
        np.float32(1e20)
    ]


@settings(max_examples=1000)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: b"\xa3" + b)))
def test_no_bytes_do_anything_but_decode_or_be_refused(data: bytes) -> None:
    for decode in (decode_document, Model.decode):
        with contextlib.suppress(MessageError):
            decode(data)


def test_shapes_must_match_name_by_name() -> None:
    shapes = {"w": (3,), "b": ()}
    check_shapes(shapes, dict(reversed(shapes.items())))
    for actual, reason in (
        ({"w": (3,)}, "missing_tensor"),
        ({**shapes, "c": ()}, "extra_tensor"),
        ({"w": (3, 1), "b": ()}, "wrong_shape"),
    ):
        with pytest.raises(MessageError) as caught:
            check_shapes(actual, shapes)
        assert caught.value.reason == reason


def test_json_numbers_are_the_shortest_that_read_back() -> None:
    array = np.array([0.1, 1e-45, 3.4028235e38, -0.0, 16777216], np.float32)
    text = json.loads(Model({"w": array}).encode(Format.JSON))["w"]
    assert text == [0.1, 1e-45, 3.4028235e38, -0.0, 16777216.0]
