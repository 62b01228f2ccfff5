"""Profiles: what is drawn, and that it hangs on the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.errors import ConfigError
from propeller_fl.fleet import FleetPlan, Spread, chosen, is_lost

Floats = NDArray[np.float64]


def drawn(text: str, count: int = 20_000) -> Floats:
    return Spread.parse(text, "latency").draw(np.random.default_rng(1), count)


def test_spreads_have_the_shape_they_are_named_for() -> None:
    assert set(drawn("fixed:0.25")) == {0.25}

    uniform = drawn("uniform:1:3")
    assert uniform.min() >= 1
    assert uniform.max() <= 3
    assert uniform.mean() == pytest.approx(2, abs=0.02)

    logs = np.log(drawn("lognormal:2:0.5"))
    assert np.exp(np.median(logs)) == pytest.approx(2, rel=0.02)
    assert logs.std() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    "text", ["", "fixed", "fixed:x", "fixed:-1", "fixed:nan", "uniform:3:1", "normal:1:1"]
)
def test_a_spread_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="--latency"):
        Spread.parse(text, "--latency")


def test_a_share_is_of_whole_members() -> None:
    for share, members in ((0.0, 0), (0.1, 5), (1.0, 50)):
        assert chosen(np.random.default_rng(0), 50, share).sum() == members


def test_losses_hang_on_seed_name_and_number_alone() -> None:
    first = [is_lost(7, "sim-1", number, 0.2) for number in range(5_000)]
    assert first == [is_lost(7, "sim-1", number, 0.2) for number in range(5_000)]
    assert np.mean(first) == pytest.approx(0.2, abs=0.02)
    assert first != [is_lost(8, "sim-1", number, 0.2) for number in range(5_000)]
    assert first != [is_lost(7, "sim-2", number, 0.2) for number in range(5_000)]
    assert not any(is_lost(7, "sim-1", number, 0.0) for number in range(1_000))


def plan(**values: object) -> FleetPlan:
    return FleetPlan(Path("unused"), proplets=200, **values)  # type: ignore[arg-type]


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    latency, samples = Spread.parse("uniform:0:1", "l"), Spread.parse("lognormal:50:1", "s")
    one = plan(seed=3, dropout=0.1, latency=latency, samples=samples, wasm=0.05)
    same = plan(seed=3, dropout=0.1, latency=latency, samples=samples, wasm=0.05)
    other = plan(seed=4, dropout=0.1, latency=latency, samples=samples, wasm=0.05)

    assert (one.round(2).drops == same.round(2).drops).all()
    assert (one.round(2).latency_s == same.round(2).latency_s).all()
    assert (one.num_samples == same.num_samples).all()
    assert (one.is_wasm == same.is_wasm).all()
    assert (one.round(2).drops != one.round(1).drops).any()
    assert (one.num_samples != other.num_samples).any()
    assert one.num_samples.min() >= 1


def test_k_counts_those_who_stay() -> None:
    assert plan(dropout=0.25).round(1).k == 150
    assert plan(dropout=0.25, k=0.5).round(1).k == 75
    assert plan().round(1).k == 200


def test_somebody_is_always_really_run() -> None:
    assert plan(wasm=0.0).is_wasm.sum() == 1
    assert plan(wasm=0.1).is_wasm.sum() == 20


@pytest.mark.parametrize(
    "wrong",
    [{"loss": 0.95}, {"dropout": 1.0}, {"k": 1.5}, {"rounds": 0}, {"qos": 2}, {"timeout_s": 0.0}],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        plan(**wrong)


def test_too_large_a_fleet_is_refused_with_what_there_may_be() -> None:
    with pytest.raises(ConfigError, match="1 to 100,000"):
        FleetPlan(Path("unused"), proplets=100_001)
