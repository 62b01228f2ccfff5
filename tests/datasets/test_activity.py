"""The recordings of ten wrists, read from the package that carries them."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from propeller_fl.datasets import SUBJECTS, load_activity
from propeller_fl.errors import ConfigError
from propeller_fl.wire import Format, decode_document


def test_recordings_are_what_they_were() -> None:
    people = load_activity()

    assert len(people) == SUBJECTS == 10
    assert [len(person) for person in people[:4]] == [29099, 28031, 16286, 15798]
    assert sum(len(person) for person in people) == 244102
    for person in people:
        assert person.x.dtype == person.y.dtype == np.uint8
        assert (person.features, person.classes) == (6, 7)
        assert len(np.flatnonzero(np.diff(person.y))) == 13, "seven exercises, twice"
        cut = ((person.x == 0) | (person.x == 255)).mean(axis=0)
        assert (cut < 0.004).all()
    gravity = np.linalg.norm(4 * (people[0].scaled()[:, :3] - 1), axis=1)
    assert np.median(gravity) == pytest.approx(1, abs=0.05), "in g, with 128 as zero"


def test_one_person_fits_the_flash_of_a_board() -> None:
    assert max(len(person.encode(Format.CBOR)) for person in load_activity()) < 256 * 1024


def test_document_reads_back() -> None:
    person = load_activity()[3]

    document = decode_document(person.encode(Format.CBOR))

    assert np.array_equal(document["x"], person.x)
    assert np.array_equal(document["y"], person.y)
    assert document["x_scale"] == 1 / 128


def test_its_code_is_not_imported() -> None:
    load_activity()
    assert "seglearn" not in sys.modules


def test_where_the_package_is_missing_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(ConfigError, match=r"seglearn, which is not installed.*activity"):
        load_activity.__wrapped__()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"other"])
def test_another_file_is_refused(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "seglearn" / "data" / "watch_dataset.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    metadata = tmp_path / "seglearn-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: seglearn\nVersion: 9\n")
    (metadata / "RECORD").write_text("seglearn/data/watch_dataset.npy,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="does not hold the recordings"):
        load_activity.__wrapped__()
