"""The weighted mean, against numpy's and against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from propeller_fl.learn import Sum, WeightedMean, mean_metrics, sum_in_c, sum_in_numpy


def test_it_is_numpys_average() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(20, 70_001)).astype(np.float32)  # more than one block
    weights = rng.integers(1, 1000, size=20)
    mean = WeightedMean(70_001)
    for vector, weight in zip(vectors, weights, strict=True):
        mean.add(vector, int(weight))
    expected = np.average(vectors.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_array_equal(mean.result(), expected.astype(np.float32))
    assert (mean.count, mean.total_weight) == (20, int(weights.sum()))


@pytest.mark.parametrize("size", [1, 650, 5_000, 40_001])
@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_c_and_numpy_give_the_bits_of_one_sum_after_the_other(size: int, count: int) -> None:
    """Also of rows that are not contiguous, and of values between the least and the largest."""
    in_c = sum_in_c()
    assert in_c is not None, "install with `pip install -e .`, which builds it"
    rng = np.random.default_rng(size + count)
    scale = 10.0 ** rng.integers(-38, 38, size=(count, size))
    every_second = (rng.normal(size=(count, size)) * scale).astype(np.float32).repeat(2, axis=1)
    rows = [row[::2] for row in every_second]
    weights = [int(weight) for weight in rng.integers(1, 2**40, size=count)]
    start = rng.normal(size=size)
    expected = start.copy()
    for row, weight in zip(rows, weights, strict=True):
        expected += row.astype(np.float64) * weight

    ways: list[Sum] = [in_c, sum_in_numpy]
    for way in ways:
        total = start.copy()
        way(total, rows, weights)
        assert total.tobytes() == expected.tobytes()


def test_float32_sums_would_lose_what_float64_keeps() -> None:
    mean = WeightedMean(1)
    values = [1e8, 1.0, -1e8]
    for value in values:
        mean.add(np.array([value], np.float32), 1)
    assert mean.result()[0] == np.float32(Fraction(sum(map(Fraction, values)), 3))


def test_the_largest_floats_and_weights_do_not_overflow() -> None:
    mean = WeightedMean(1)
    for _ in range(4):
        mean.add(np.array([np.finfo(np.float32).max]), 2**43)
    assert mean.result()[0] == np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("vector", "weight"), [(np.zeros(3, np.float32), 1), (np.zeros(2, np.float32), 0)]
)
def test_another_size_or_no_weight_is_refused(vector: np.ndarray, weight: int) -> None:
    with pytest.raises(ValueError, match=r"shape|weight"):
        WeightedMean(2).add(vector, weight)


def test_of_nothing_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no updates"):
        WeightedMean(2).result()


def test_a_metric_counts_by_the_samples_of_those_who_report_it() -> None:
    reports = [({"loss": 1.0}, 10), ({"loss": 2.0, "accuracy": 0.5}, 30), ({}, 5)]
    assert mean_metrics(reports) == {"loss": 1.75, "accuracy": 0.5}


def test_a_metric_that_overflows_is_left_out() -> None:
    assert mean_metrics([({"loss": 1.7e308, "n": 1.0}, 2), ({"loss": 1.7e308}, 2)]) == {"n": 1.0}
