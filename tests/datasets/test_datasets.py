"""The shipped data: what it is, how it is split and shared out, how it is written."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from propeller_fl import datasets
from propeller_fl.errors import ConfigError
from propeller_fl.wire import Format, decode_document

Cut = Callable[[datasets.Dataset, int, int], list[NDArray[np.intp]]]

CUTS: dict[str, Cut] = {
    "iid": lambda data, parts, seed: datasets.iid(data, parts, seed=seed),
    "dirichlet": lambda data, parts, seed: datasets.dirichlet(data, parts, alpha=0.1, seed=seed),
    "shards": lambda data, parts, seed: datasets.shards(data, parts, per_part=2, seed=seed),
}


def test_digits_are_what_they_were() -> None:
    digits = datasets.load("digits")

    assert digits.x.shape == (1797, 64)
    assert digits.x.dtype == digits.y.dtype == np.uint8
    assert (len(digits), digits.features, digits.classes) == (1797, 64, 10)
    assert (digits.x.min(), digits.x.max(), digits.scaled().max()) == (0, 16, 1.0)
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.x[0, :8].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert digits.y[:10].tolist() == list(range(10))


def test_tumors_are_standardised() -> None:
    tumors = datasets.load("tumors")

    assert tumors.x.shape == (569, 3)
    assert tumors.x.dtype == np.float32
    assert np.bincount(tumors.y).tolist() == [357, 212]
    np.testing.assert_allclose(tumors.x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(tumors.x.std(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("name", datasets.NAMES)
def test_file_is_small(name: str) -> None:
    file = importlib.resources.files("propeller_fl.datasets").joinpath(f"{name}.npz")

    assert len(file.read_bytes()) < 100_000


@pytest.mark.parametrize("name", datasets.NAMES)
def test_data_cannot_be_changed_by_accident(name: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        datasets.load(name).x[0, 0] = 1


def test_unknown_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="digits, tumors"):
        datasets.load("mnist")


@pytest.mark.parametrize(("name", "sizes"), [("digits", (1347, 450)), ("tumors", (426, 143))])
def test_split_is_stratified(name: str, sizes: tuple[int, int]) -> None:
    whole = datasets.load(name)

    train, test = datasets.split(whole, seed=3)

    assert (len(train), len(test)) == sizes
    share = np.bincount(whole.y) * len(test) / len(whole)
    assert (abs(np.bincount(test.y) - share) < 1).all()
    rows = sorted(map(tuple, np.concatenate([train.x, test.x]).tolist()))
    assert rows == sorted(map(tuple, whole.x.tolist()))


def test_split_depends_on_the_seed_alone() -> None:
    digits = datasets.load("digits")
    first, again, other = (datasets.split(digits, seed=seed)[1].x for seed in (1, 1, 2))

    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("test", [0.0, 1.0, -1.0, float("nan")])
def test_split_into_nothing_is_refused(test: float) -> None:
    with pytest.raises(ConfigError, match="test share"):
        datasets.split(datasets.load("tumors"), test=test)


@pytest.mark.parametrize("cut", CUTS)
@given(parts=st.integers(1, 100), seed=st.integers(0, 1000))
def test_parts_are_disjoint_and_whole_and_not_empty(cut: str, parts: int, seed: int) -> None:
    tumors = datasets.load("tumors")

    found = CUTS[cut](tumors, parts, seed)

    assert len(found) == parts
    assert all(len(part) for part in found)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(tumors)))
    again = CUTS[cut](tumors, parts, seed)
    assert all((one == other).all() for one, other in zip(found, again, strict=True))


def test_iid_parts_have_equal_sizes() -> None:
    sizes = {len(part) for part in datasets.iid(datasets.load("digits"), 10)}

    assert sizes == {179, 180}


def test_shards_hold_few_classes() -> None:
    digits = datasets.load("digits")

    classes = [len(set(digits.y[part])) for part in datasets.shards(digits, 10, per_part=2)]

    assert max(classes) <= 4
    assert np.mean(classes) < 4


def test_alpha_sets_how_uneven_parts_are() -> None:
    digits = datasets.load("digits")

    def spread(alpha: float) -> float:
        return float(np.std([len(p) for p in datasets.dirichlet(digits, 10, alpha=alpha)]))

    assert spread(0.1) > 3 * spread(100)


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: datasets.iid(data, 0),
        lambda data: datasets.iid(data, 570),
        lambda data: datasets.dirichlet(data, 10, alpha=0),
        lambda data: datasets.dirichlet(data, 10, alpha=float("nan")),
        lambda data: datasets.shards(data, 300, per_part=2),
        lambda data: datasets.shards(data, 10, per_part=0),
    ],
)
def test_parts_that_cannot_be_are_refused(cut: Callable[[datasets.Dataset], object]) -> None:
    with pytest.raises(ConfigError):
        cut(datasets.load("tumors"))


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", datasets.NAMES)
def test_document_reads_back(name: str, form: Format) -> None:
    data = datasets.load(name).take(np.arange(20))

    document = decode_document(data.encode(form))

    assert np.array_equal(np.asarray(document["x"], data.x.dtype), data.x)
    assert np.array_equal(document["y"], data.y)
    assert document.get("x_scale", 1.0) == data.x_scale


def test_digits_take_a_byte_a_number() -> None:
    digits = datasets.load("digits")

    assert len(digits.encode(Format.CBOR)) < 65 * len(digits) + 64
    assert digits.take(np.arange(1)).encode(Format.JSON).startswith(b'{"x":[[0,0,5,13,9,')
