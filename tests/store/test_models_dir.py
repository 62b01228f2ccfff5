"""The directory of models: complete files or none, and one writer."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from propeller_fl.errors import DamagedStoreError, StoreError
from propeller_fl.store import ModelsDir, StoredModel, check_models
from propeller_fl.wire import Format, Model

from ..support.wait import wait_until

JSON = b'{"w": [1.0, 2.0], "b": 0.5, "version": 1}'
CBOR = b"\xa1\x67version\x02"


def test_bytes_as_they_were_given(tmp_path: Path) -> None:
    with ModelsDir(tmp_path / "deep" / "models") as models:
        stored = models.put(1, JSON)
        models.put(2, CBOR)
        assert (stored.version, stored.format, stored.size_bytes) == (1, Format.JSON, len(JSON))
        assert stored.sha256 == hashlib.sha256(JSON).hexdigest()
        assert models.find(1) == stored
        assert models.read(1) == JSON
        assert models.read(2) == CBOR
        files = {path.name for path in models.directory.iterdir() if path.name[0] != "."}
        assert files == {"global_model_v1.json", "global_model_v2.cbor"}


@pytest.mark.parametrize(
    "document",
    [
        Model(
            {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.asarray(0.1, np.float32)}, 2
        ),
        Model({"z": np.full(30, 1e-3, np.float32), "a/ü b": np.ones((1, 1, 4), np.float32)}, 2),
        Model({f"layer.{n}": np.full(n + 1, n, np.float32) for n in range(300)}, 2),
    ],
    ids=["scalar", "order", "many"],
)
def test_cbor_is_kept_as_safetensors(tmp_path: Path, document: Model) -> None:
    """Other tools read the file, and what was published is had back from it, byte for byte."""
    data = document.encode(Format.CBOR)
    with ModelsDir(tmp_path) as models:
        stored = models.put(2, data)
    loaded = safetensors.numpy.load_file(tmp_path / "global_model_v2.safetensors")
    assert set(loaded) == set(document.tensors)
    for name, array in document.tensors.items():
        assert np.array_equal(loaded[name], array)
    with ModelsDir(tmp_path) as models:
        assert models.find(2) == stored == models.put(2, data)
        sha256 = hashlib.sha256(data).hexdigest()
        assert stored == StoredModel(2, Format.CBOR, len(data), sha256)
        assert models.read(2) == data
        with models.open(2) as file:
            assert file.read() == data
            for start in (0, 1, len(data) // 2, len(data) - 1, len(data), len(data) + 5):
                file.seek(start)
                assert file.read(7) == data[start : start + 7]
        with pytest.raises(StoreError, match="exists with other bytes"):
            models.put(2, data + b" ")


@pytest.mark.parametrize(
    "document",
    [
        b"\xa2\x67version\x02\x61w\xd8\x55\x44\0\0\x80\x3f",  # in another order than ours
        b"\xa2\x61w\x81\xf9\x3c\x00\x67version\x02",  # a list of numbers
        b"\xa2\x61w\xd8\x56\x48\0\0\0\0\0\0\xf0\x3f\x67version\x02",  # float64
        b"\xa1\x61w\xd8\x55\x44\0\0\x80\x3f\xff",  # a byte too many
        Model({"__metadata__": np.ones(1, np.float32)}, 2).encode(Format.CBOR),
    ],
    ids=["order", "list", "float64", "no-model", "name"],
)
def test_cbor_of_others_is_kept_as_it_is(tmp_path: Path, document: bytes) -> None:
    with ModelsDir(tmp_path) as models:
        models.put(2, document)
        assert (tmp_path / "global_model_v2.cbor").read_bytes() == document == models.read(2)


@pytest.mark.parametrize("where", [0, 9, 40, -1])
def test_a_safetensors_file_that_is_damaged(tmp_path: Path, where: int) -> None:
    path = tmp_path / "global_model_v2.safetensors"
    with ModelsDir(tmp_path) as models:
        models.put(2, Model({"w": np.ones(9, np.float32)}, 2).encode(Format.CBOR))
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with ModelsDir(tmp_path) as models:
        assert [model.version for model in models.versions()] == [2]
        with pytest.raises(DamagedStoreError, match=r"v2\.safetensors is damaged"):
            models.read(2)
    [(detail, _)] = check_models(tmp_path, {}).faults
    assert "global_model_v2.safetensors is damaged" in detail


def test_versions_in_numerical_order(tmp_path: Path) -> None:
    with ModelsDir(tmp_path) as models:
        assert models.latest() is None
        for version in (10, 9, 0):
            models.put(version, JSON)
        assert [model.version for model in models.versions()] == [0, 9, 10]
        latest = models.latest()
        assert latest is not None
        assert latest.version == 10


def test_the_same_again_and_other_bytes(tmp_path: Path) -> None:
    with ModelsDir(tmp_path) as models:
        assert models.put(1, JSON) == models.put(1, JSON)
        for other in (JSON + b" ", CBOR):
            with pytest.raises(StoreError, match="exists with other bytes"):
                models.put(1, other)
        assert models.read(1) == JSON


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with ModelsDir(tmp_path) as models:
        assert models.find(7) is None
        with pytest.raises(StoreError, match="no model version 7"):
            models.read(7)


def test_leftovers_go_and_strangers_stay(tmp_path: Path) -> None:
    leftover = tmp_path / ".unfinished-global_model_v3.json-12ab"
    strangers = [tmp_path / name for name in ("notes.txt", "global_model_v01.json", "model.json")]
    for path in [leftover, *strangers]:
        path.write_bytes(b"x")
    with ModelsDir(tmp_path) as models:
        assert models.versions() == []
    assert not leftover.exists()
    assert all(path.exists() for path in strangers)


def test_one_writer_and_any_number_of_readers(tmp_path: Path) -> None:
    reader_before = ModelsDir(tmp_path, read_only=True)
    with ModelsDir(tmp_path) as models:
        with pytest.raises(StoreError, match="in use by another model server"):
            ModelsDir(tmp_path)
        unfinished = tmp_path / ".unfinished-global_model_v3.json-12ab"
        unfinished.touch()
        models.put(1, JSON)
        reader = ModelsDir(tmp_path, read_only=True)
        assert reader.read(1) == reader_before.read(1) == JSON
        assert unfinished.exists()  # it may be the writer's
        with pytest.raises(StoreError, match="read only"):
            reader.put(2, JSON)
    ModelsDir(tmp_path).close()  # the lock is free again


def test_two_files_of_one_version(tmp_path: Path) -> None:
    (tmp_path / "global_model_v1.json").write_bytes(JSON)
    (tmp_path / "global_model_v1.cbor").write_bytes(CBOR)
    with pytest.raises(StoreError, match="has both"):
        ModelsDir(tmp_path)


def test_a_reader_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        ModelsDir(tmp_path / "nowhere", read_only=True).versions()


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        ModelsDir(tmp_path / "file")


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    with ModelsDir(tmp_path) as models:
        models.put(1, JSON)
        with largest_file(64), pytest.raises(StoreError, match=os.strerror(errno.EFBIG)):
            models.put(2, bytes(1000))
        assert [model.version for model in models.versions()] == [1]
        assert not list(tmp_path.glob(".unfinished*"))
        models.put(2, bytes(1000))  # the disk is mended


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """Whatever the instant, a file is complete or not there."""
    writer = (
        "import sys; from pathlib import Path\n"
        "from propeller_fl.store import ModelsDir\n"
        "models = ModelsDir(Path(sys.argv[1]))\n"
        "first = max((m.version for m in models.versions()), default=-1) + 1\n"
        "for version in range(first, 100_000):\n"
        "    models.put(version, b'%6d' % version + bytes(100_000))\n"
    )
    for generation in range(1, 4):
        process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)])
        until_models(tmp_path, generation * 3)
        process.kill()
        process.wait(10)
    with ModelsDir(tmp_path) as models:
        found = models.versions()
        assert [model.version for model in found] == list(range(len(found)))
        for model in found:
            assert models.read(model.version) == b"%6d" % model.version + bytes(100_000)
        assert not list(tmp_path.glob(".unfinished*"))


def until_models(directory: Path, count: int) -> None:
    wait_until(
        lambda: len(list(directory.glob("global*"))) >= count, 30, f"{count} models are written"
    )


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond that: stands in for a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
