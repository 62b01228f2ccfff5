"""What stands for a large update, and where the arrays of one lie in a file."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from propeller_fl.errors import MessageError
from propeller_fl.wire import (
    Format,
    Manifest,
    Reason,
    Update,
    UpdateManifest,
    decode_update,
    encode_document,
    index_update,
)

FILE = Manifest(7, 10_000, "c" * 64, 4096, ("a" * 64, "b" * 64, "a" * 64), {"w": (10, 20)})
OFFER = UpdateManifest("r-1", "proplet-1", "fl/models/global_model_v7", 10, {"loss": 0.5}, FILE)
WHOLE = {
    "round_id": "r-1",
    "base_model_uri": "fl/models/global_model_v7",
    "num_samples": 10,
    "update": {
        "w": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.array(0.5, np.float32),
        "v": np.ones(3, np.float32),
    },
    "metrics": {"loss": 0.5},
}


def test_there_and_back() -> None:
    assert UpdateManifest.decode(OFFER.encode()) == OFFER
    assert UpdateManifest.decode(encode_document(WHOLE, Format.JSON)) is None
    assert UpdateManifest.decode(encode_document(WHOLE, Format.CBOR)) is None
    assert UpdateManifest.decode(b"") is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round_id": "a/b"}, Reason.BAD_ID),
        ({"proplet_id": None}, Reason.MISSING_FIELD),
        ({"num_samples": 0}, Reason.BAD_NUM_SAMPLES),
        ({"metrics": {"loss": "low"}}, Reason.BAD_FIELD),
        ({"manifest": {}}, Reason.MISSING_FIELD),
        ({"manifest": FILE.member() | {"parts": []}}, Reason.BAD_FIELD),
    ],
)
def test_one_that_cannot_be(changes: dict[str, Any], reason: Reason) -> None:
    document = json.loads(OFFER.encode()) | changes
    with pytest.raises(MessageError) as caught:
        UpdateManifest.decode(json.dumps(document).encode())
    assert caught.value.reason == reason


def test_arrays_are_found_without_reading_them() -> None:
    data = encode_document(WHOLE, Format.CBOR)
    index = index_update(io.BytesIO(data), len(data))
    assert decode_update(index.rest) == WHOLE | {"update": {}}
    assert index.shapes == Update.decode(data).shapes
    assert index.tensors["b"] == 0.5
    for name in ("w", "v"):
        place = index.tensors[name]
        assert isinstance(place, range)
        assert data[place.start : place.stop] == Update.decode(data).tensors[name].tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        encode_document({k: v for k, v in WHOLE.items() if k != "update"}, Format.CBOR),
        encode_document(WHOLE, Format.CBOR)[:-1],
        encode_document(WHOLE, Format.CBOR) + b"\0",
        encode_document(WHOLE | {"update": {"w": np.ones(3, np.uint8)}}, Format.CBOR),
        encode_document(WHOLE | {"update": [1, 2]}, Format.CBOR),
        b"\xa1\x66update\xa1\x61w\xd8\x55\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xa1\x66update\xa1\x61w\xd8\x28\x82\x82\x03\x04\xd8\x55\x44\0\0\0\0",
        b"\xa1\x66update\xbf\xff",
        b"\xa1\x66update\xa1\x61w\xfa\x7f\x80\0\0",
        b"\xa2\x61x" + b"\x81" * 200_000 + b"\0\x66update\xa0",
    ],
    ids=[
        "nothing", "json", "no-update", "cut-off", "trailing", "bytes", "a-list", "too-long",
        "shape", "without-end", "infinite", "deep",
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_update(data: bytes) -> None:
    with pytest.raises(MessageError):
        index_update(io.BytesIO(data), len(data))
