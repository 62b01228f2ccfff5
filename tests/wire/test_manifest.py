"""What stands for a large model: read as it was written, and refused by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from propeller_fl.errors import MessageError
from propeller_fl.wire import Manifest, PartsWanted, Topics, part_sha256

DIGESTS = ("a" * 64, "b" * 64, "a" * 64)
MANIFEST = Manifest(7, 10_000, "c" * 64, 4096, DIGESTS, {"w": (10, 20), "scale ü": ()})


def document(**changes: Any) -> bytes:
    found = json.loads(MANIFEST.encode())
    found["manifest"] |= changes
    return json.dumps(found).encode()


def test_there_and_back() -> None:
    assert Manifest.decode(MANIFEST.encode()) == MANIFEST
    assert [MANIFEST.place(index) for index in range(3)] == [
        range(4096), range(4096, 8192), range(8192, 10_000)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data", [b'{"w":[1.0],"version":1}', b'{"manifest":[1.0],"version":1}', b"\xa1\x61w\x01", b""]
)
def test_a_document_that_holds_the_model(data: bytes) -> None:
    assert Manifest.decode(data) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": "npz"}, "manifest.format"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": 10**30}, "size_bytes"),
        ({"size_bytes": 20_000}, "manifest.parts"),
        ({"part_bytes": 1}, "part_bytes"),
        ({"sha256": "C" * 64}, "manifest.sha256"),
        ({"parts": []}, "manifest.parts"),
        ({"parts": [1, 2, 3]}, "manifest.parts"),
        ({"parts": ["../x", "a", "b"]}, "manifest.parts"),
        ({"tensors": {}}, "manifest.tensors"),
        ({"tensors": {"w": [2500]}}, "manifest.tensors"),
        ({"tensors": {"w": [1 << 39, 1 << 39]}}, "manifest.tensors.'w'"),
        ({"tensors": {"w": [-1, -1]}}, "manifest.tensors.'w'"),
        ({"tensors": {"w": [True]}}, "manifest.tensors.'w'"),
        ({"tensors": {"w": [1] * 9}}, "manifest.tensors.'w'"),
        ({"tensors": {"a\nb": [1]}}, "manifest.tensors.'a\\nb'"),
        ({"tensors": None}, "tensors"),
    ],
)
def test_one_that_cannot_be(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageError) as caught:
        Manifest.decode(document(**changes))
    assert caught.value.field == field


def test_no_version() -> None:
    with pytest.raises(MessageError, match="version is missing"):
        Manifest.decode(json.dumps({"manifest": {}}).encode())


def test_who_wants_what() -> None:
    wanted = PartsWanted("proplet-1", DIGESTS)
    assert PartsWanted.decode(wanted.encode()) == wanted
    for bad in (
        b'{"from":"a/b","parts":["%s"]}' % (b"a" * 64),
        b'{"from":"a","parts":[]}',
        json.dumps({"from": "a", "parts": ["a" * 64] * 257}).encode(),
    ):
        with pytest.raises(MessageError):
            PartsWanted.decode(bad)


def test_topics() -> None:
    topics = Topics("m/t")
    assert topics.part("a" * 64) == "m/t/fl/parts/" + "a" * 64
    assert part_sha256(topics.relative(topics.part("a" * 64)) or "") == "a" * 64
    assert part_sha256(topics.relative(topics.parts_wanted) or "") is None
