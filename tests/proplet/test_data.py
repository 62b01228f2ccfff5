"""Where a proplet's samples come from."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from propeller_fl import datasets
from propeller_fl.errors import ConfigError
from propeller_fl.proplet import data_source
from propeller_fl.wire import decode_document


def labels(setting: str, ids: list[str], *, held_out: bool = False) -> list[list[int]]:
    source = data_source(setting, ids)
    documents = []
    for proplet_id in ids:
        data = source.data_of(proplet_id, held_out=held_out)
        assert isinstance(data, bytes)
        documents.append(decode_document(data))
    return [document["y"].tolist() for document in documents]


@pytest.mark.parametrize("kind", ["", ":iid", ":dirichlet=0.5", ":shards=2"])
def test_training_samples_are_shared_out(kind: str) -> None:
    train, _ = datasets.split(datasets.load("digits"))

    parts = labels(f"digits{kind}", ["a", "b", "c"])

    assert sorted(itertools.chain(*parts)) == sorted(train.y.tolist())


def test_processes_can_have_parts_of_one_whole() -> None:
    whole = labels("tumors:dirichlet=1", ["a", "b", "c", "d"])

    assert labels("tumors:dirichlet=1@1/4", ["a"]) == whole[:1]
    assert labels("tumors:dirichlet=1@2/4", ["b", "c"]) == whole[1:3]


def test_document_has_the_scale() -> None:
    data = data_source("digits", ["a"]).data_of("a")
    assert isinstance(data, bytes)
    document = decode_document(data)

    assert document["x"].dtype == np.uint8
    assert document["x"].shape == (1347, 64)
    assert document["x_scale"] == 1 / 16


@pytest.mark.parametrize("kind", ["", ":shards=2"])
def test_what_is_held_out_are_the_test_samples_shared_out(kind: str) -> None:
    _, test = datasets.split(datasets.load("digits"))
    whole = labels("digits", ["a", "b", "c", "d"], held_out=True)
    assert sorted(itertools.chain(*whole)) == sorted(test.y.tolist())
    assert labels(f"digits{kind}@2/4", ["b", "c"], held_out=True) == whole[1:3]


def test_a_part_of_activity_is_a_person() -> None:
    people = datasets.load_activity()
    assert labels("activity", ["a", "b"]) == [person.y.tolist() for person in people[:2]]
    assert labels("activity@9/10", ["a", "b"]) == [person.y.tolist() for person in people[8:]]
    assert labels("activity@10/10", ["a"], held_out=True) == [people[9].y.tolist()]


def test_a_directory_may_hold_out(tmp_path: Path) -> None:
    for name in ("p-1.cbor", "p-1.held-out.json", "p-2.json"):
        (tmp_path / name).write_bytes(b"x")
    source = data_source(str(tmp_path), ["p-1", "p-2"])
    assert source.data_of("p-1") == tmp_path / "p-1.cbor"
    assert source.data_of("p-1", held_out=True) == tmp_path / "p-1.held-out.json"
    assert source.data_of("p-2", held_out=True) == tmp_path / "p-2.json"


@pytest.mark.parametrize("suffix", ["json", "cbor"])
def test_directory_has_a_file_a_proplet(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"p-1.{suffix}").write_bytes(b"x")

    source = data_source(str(tmp_path), ["p-1", "p-2"])

    assert source.data_of("p-1") == tmp_path / f"p-1.{suffix}"
    with pytest.raises(ConfigError, match=r"put p-2\.json or p-2\.cbor into"):
        source.data_of("p-2")


def test_proplet_of_another_process_has_no_data() -> None:
    with pytest.raises(ConfigError, match="no data for proplet p-9"):
        data_source("digits", ["p-1"]).data_of("p-9")


@pytest.mark.parametrize(
    "setting",
    [
        "no-such-set",
        "digits:",
        "digits:dirichlet",
        "digits:dirichlet=0",
        "digits:dirichlet=1.2.3",
        "digits:shards=0",
        "digits@0/2",
        "digits@2/2",
        "digits@1/0",
        "digits:shards=999",
        "activity:iid",
        "activity@1/9",
        "activity@10/10",
        "~no-such-user/data",
        "a\0b",
        "x" * 300,
    ],
)
def test_setting_that_cannot_be_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        data_source(setting, ["p-1", "p-2"])
