"""The quick reader of usual CBOR reads what cbor2 reads, and lets nothing more through."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propeller_fl.errors import MessageError
from propeller_fl.wire import Format, decode_document, encode_document

_leaves = (
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.text(max_size=9)
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
documents = st.dictionaries(st.text(max_size=30), _values, max_size=30)
short_documents = st.dictionaries(st.text(max_size=9), _values, max_size=3)


def same(found: Any, expected: Any) -> bool:
    return repr(found) == repr(expected)  # tells 1 from 1.0 and from True, -0.0 from 0.0, and NaN


@settings(deadline=None)
@given(documents, st.booleans())
def test_a_document_reads_as_with_cbor2(document: dict[str, Any], canonical: bool) -> None:
    data = cbor2.dumps(document, canonical=canonical)  # canonical: the shortest floats
    assert same(decode_document(data), cbor2.loads(data))


@settings(deadline=None)
@given(short_documents, st.data())
def test_a_damaged_document_reads_as_with_cbor2_or_is_refused(
    document: dict[str, Any], draw: st.DataObject
) -> None:
    data = bytearray(cbor2.dumps(document))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    if not 0xA0 <= data[0] <= 0xBF:
        return
    try:
        found = decode_document(bytes(data))
    except MessageError:
        return
    assert same(found, cbor2.loads(bytes(data)))


@settings(deadline=None)
@given(short_documents, st.data())
def test_a_document_cut_short_is_refused(document: dict[str, Any], draw: st.DataObject) -> None:
    data = cbor2.dumps(document)
    size = draw.draw(st.integers(1, len(data)))
    if size < len(data):
        with pytest.raises(MessageError):
            decode_document(data[:size])
    with pytest.raises(MessageError, match="1 bytes follow"):
        decode_document(data + b"\x00")


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4), (24, 1), (300,), (70_000,)])
def test_arrays_keep_shape_and_bits(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = decode_document(encode_document({"x": 1, "w": array}, Format.CBOR))["w"]
    assert (found.dtype, found.shape) == (array.dtype, shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.aligned


@pytest.mark.parametrize(
    "value",
    [
        cbor2.CBORTag(85, b"12345"),
        cbor2.CBORTag(85, "text"),
        cbor2.CBORTag(40, [[2, 2], cbor2.CBORTag(85, b"\0" * 12)]),
        cbor2.CBORTag(40, [[2], cbor2.CBORTag(85, b"\0" * 8), 1]),
        cbor2.CBORTag(40, [[2], [1, 2]]),
        cbor2.CBORTag(40, [[-1], cbor2.CBORTag(85, b"\0" * 4)]),
        b"a byte string",
        cbor2.undefined,
        cbor2.CBORSimpleValue(99),
        {1: 2},
    ],
)
def test_what_is_no_such_array_is_refused(value: Any) -> None:
    with pytest.raises(MessageError):
        decode_document(cbor2.dumps({"w": value}))
