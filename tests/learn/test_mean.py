"""The weighted mean, against numpy's and against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from propeller_fl.learn import WeightedMean, mean_metrics


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
