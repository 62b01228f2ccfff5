"""What is said of stores that are sound, and of each way not to be."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from propeller_fl.errors import DamagedStoreError, StoreError
from propeller_fl.rounds import Opening
from propeller_fl.store import (
    FilesReport,
    LaunchStore,
    ModelsDir,
    RoundStore,
    check_launches,
    check_models,
    check_rounds,
    check_update_files,
    facts_of,
    made_models,
)
from propeller_fl.wire import Manifest, RoundStart, UpdateManifest

MODEL = b'{"w":[1.0],"version":%d}'
CBOR = b"\xa2\x61w\x81\xf9\x3c\x00\x67version\x02"


@pytest.fixture
def rounds(tmp_path: Path) -> Path:
    path = tmp_path / "rounds.db"
    with closing(RoundStore(path)) as store:
        store.put_model("fl/models/global_model_v1", MODEL % 1, None)
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Three of them."""
    directory = tmp_path / "models"
    with ModelsDir(directory) as models:
        models.put(0, MODEL % 0)
        models.put(1, MODEL % 1)
        models.put(2, CBOR)
    return directory


def test_sound_databases(rounds: Path, tmp_path: Path) -> None:
    assert check_rounds(rounds) == f"{rounds} is sound: 0 rounds, 0 updates, 1 models"
    launches = tmp_path / "launches.db"
    LaunchStore(launches).close()
    assert check_launches(launches) == f"{launches} is sound: 0 rounds, 0 launches, 0 proplets"


def test_a_row_that_belongs_to_nothing(rounds: Path) -> None:
    with closing(sqlite3.connect(rounds)) as db:
        db.execute("INSERT INTO refusals VALUES (1, 'r-9', 'a', 'x', 'y', 0)")
        db.commit()
    with pytest.raises(DamagedStoreError, match="a row of refusals belongs to none of rounds"):
        check_rounds(rounds)


def test_a_later_programs(rounds: Path) -> None:
    with closing(sqlite3.connect(rounds)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="schema 99"):
        check_rounds(rounds)


def test_one_that_is_being_written(rounds: Path) -> None:
    with closing(RoundStore(rounds)) as store, store.transaction():
        store.put_model("fl/models/global_model_v2", MODEL % 2, None)
        assert "1 models" in check_rounds(rounds)


def test_models_that_a_round_has_made(rounds: Path) -> None:
    with closing(RoundStore(rounds)) as store:
        sha256 = store.put_model("fl/models/global_model_v3", MODEL % 3, "r-1")
    assert made_models(rounds) == {3: sha256}


def test_sound_models(models: Path) -> None:
    made = {1: hashlib.sha256(MODEL % 1).hexdigest(), 2: hashlib.sha256(CBOR).hexdigest()}
    report = check_models(models, made)
    assert (report.models, report.faults, report.notes) == (3, (), ())


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("global_model_v1.json", (MODEL % 1)[:-4], "global_model_v1.json is damaged"),
        ("global_model_v1.json", b"", "global_model_v1.json is damaged"),
        ("global_model_v1.json", MODEL % 7, "it says version 7"),
        ("global_model_v1.json", b'{"w":[2.0],"version":1}', "not the model that the coordinator"),
        ("global_model_v2.cbor", MODEL % 2, "global_model_v2.cbor holds json"),
        ("global_model_v1.cbor", CBOR, "version 1 is there twice"),
    ],
)
def test_a_model_that_is_not_what_was_made(models: Path, name: str, data: bytes, says: str) -> None:
    (models / name).write_bytes(data)
    report = check_models(models, {1: hashlib.sha256(MODEL % 1).hexdigest()})
    [(detail, hint)] = report.faults
    assert says in detail
    assert hint


def test_what_is_worth_a_word(models: Path) -> None:
    (models / ".unfinished-global_model_v3.json-ab").touch()
    (models / "notes.txt").touch()
    report = check_models(models, {9: "0" * 64})
    assert report.faults == ()
    leftovers, strangers, lacking = (detail for detail, _ in report.notes)
    assert "1 unfinished files" in leftovers
    assert "notes.txt" in strangers
    assert "lacks version 9" in lacking
    with ModelsDir(models) as writer:  # what it is writing just now is no leftover
        (models / ".unfinished-global_model_v3.json-ab").touch()
        assert len(check_models(writer.directory, {9: "0" * 64}).notes) == 2


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        check_models(tmp_path / "nowhere", {})


def test_the_files_of_updates_that_should_be_there(tmp_path: Path) -> None:
    path, files = tmp_path / "rounds.db", tmp_path / "large"
    update = UpdateManifest(
        "r-1", "a", "fl/models/global_model_v0", 1, {},
        Manifest(0, 100, "f" * 64, 4096, ("a" * 64,), {"w": (3,)}),
    )  # fmt: skip
    start = RoundStart("r-1", update.base_model_uri, "builtin:linear", ("a",), {}, 1, 30.0)
    with closing(RoundStore(path)) as store, store.transaction():
        store.open_round(Opening(start, 1.0, {"w": (3,)}, "", in_parts=True))
        store.files.offer(facts_of(update, "d" * 64), update.encode())
        store.files.set_whole("r-1", "a")
    whole = files / "updates" / "r-1" / "a.safetensors"
    assert check_update_files(path, files) == FilesReport(1, (str(whole),), ())
    whole.parent.mkdir(parents=True)
    whole.touch()
    (files / "updates" / "r-0").mkdir()
    assert check_update_files(path, files) == FilesReport(1, (), (str(files / "updates" / "r-0"),))
