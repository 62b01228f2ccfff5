"""Arrays of bytes keep their type: a data set's pixels and labels."""

from __future__ import annotations

import numpy as np
import pytest

from propeller_fl.wire import Format, decode_document, encode_document


@pytest.mark.parametrize("shape", [(0,), (4,), (2, 2), (2, 1, 2)])
def test_cbor_keeps_bytes(shape: tuple[int, ...]) -> None:
    array = np.array([0, 1, 16, 255], np.uint8)[: np.prod(shape)].reshape(shape)

    read = decode_document(encode_document({"x": array}, Format.CBOR))["x"]

    assert read.dtype == np.uint8
    assert np.array_equal(read, array)


def test_cbor_of_bytes_is_tag_64() -> None:
    encoded = encode_document({"y": np.array([7, 9], np.uint8)}, Format.CBOR)

    assert encoded == bytes.fromhex("a1 61 79 d8 40 42 07 09")


def test_view_with_strides_is_written_in_row_major_order() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3).T

    assert np.array_equal(
        decode_document(encode_document({"x": array}, Format.CBOR))["x"], [[0, 3], [1, 4], [2, 5]]
    )


def test_json_of_bytes_has_whole_numbers() -> None:
    array = np.array([[0, 16], [255, 7]], np.uint8)

    assert encode_document({"x": array}, Format.JSON) == b'{"x":[[0,16],[255,7]]}'
