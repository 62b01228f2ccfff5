"""Strategies against their formulas in exact or plain numbers, and the registry's refusals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.errors import StrategyError, UnknownStrategyError
from propeller_fl.learn import (
    MAX_KRUM,
    Aggregate,
    HeldUpdates,
    State,
    Strategy,
    Updates,
    Vector,
    mean_change,
    number,
    strategy,
    strategy_arguments,
    strategy_digest,
    strategy_names,
)

BASE = np.array([1.0, -2.0, 0.5], np.float32)
VECTORS = np.array(
    [[1.5, -2.0, 0.0], [2.0, -1.0, 1.0], [1.0, -3.0, 0.5], [0.5, -2.5, 0.25], [9.0, 9.0, 9.0]],
    np.float32,
)
WEIGHTS = (10, 30, 20, 20, 20)
MEAN_CHANGE = (VECTORS.astype(float) - BASE).T @ np.array(WEIGHTS) / 100


def held(rows: int = len(VECTORS)) -> HeldUpdates:
    return HeldUpdates(VECTORS[:rows], WEIGHTS[:rows])


def rounds(name: str, count: int = 3, **args: Any) -> list[NDArray[Any]]:
    """The model after each of some rounds, the same updates in each."""
    chosen = strategy(name, args)
    base, state, found = BASE, State(), []
    for _ in range(count):
        result = chosen.aggregate(base, held(), state)
        base, state = result.model.astype(np.float32), result.state
        found.append(base)
    return found


def test_what_there_is() -> None:
    assert {
        "fedavg",
        "fedavgm",
        "fedprox",
        "fedadagrad",
        "fedadam",
        "fedyogi",
        "median",
        "trimmed_mean",
        "krum",
        "multi_krum",
    } <= set(strategy_names())


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_fedavg_is_the_weighted_mean(name: str) -> None:
    expected = np.average(VECTORS.astype(float), axis=0, weights=WEIGHTS).astype(np.float32)
    for model in rounds(name):
        np.testing.assert_array_equal(model, expected)


def test_fedprox_tells_the_modules_its_mu() -> None:
    assert dict(strategy("fedprox", {"mu": 0.3}).hyperparams({"lr": 0.1})) == {"mu": 0.3}
    assert dict(strategy("fedprox", {"mu": 0.3}).hyperparams({"mu": 0.3})) == {"mu": 0.3}
    with pytest.raises(StrategyError, match=r"hyperparams\.mu is 0\.5"):
        strategy("fedprox", {"mu": 0.3}).hyperparams({"mu": 0.5})
    assert dict(strategy("fedavg", {}).hyperparams({"mu": 0.5})) == {}


def test_fedavgm_remembers_its_velocity() -> None:
    chosen = strategy("fedavgm", {"lr": 2.0, "momentum": 0.5})
    first = chosen.aggregate(BASE, held(), State())
    np.testing.assert_allclose(first.model, BASE + 2 * MEAN_CHANGE)
    second = chosen.aggregate(BASE, held(), first.state)
    np.testing.assert_allclose(second.model, BASE + 2 * 1.5 * MEAN_CHANGE)


def test_fedavgm_without_momentum_is_fedavg() -> None:
    [plain] = rounds("fedavgm", 1, momentum=0)
    np.testing.assert_allclose(plain, rounds("fedavg", 1)[0], rtol=1e-7)


def test_adaptive_steps_by_hand() -> None:
    d, tau = MEAN_CHANGE, 0.01

    def first(name: str, **args: float) -> NDArray[Any]:
        result = strategy(name, {"lr": 0.1, "tau": tau} | args).aggregate(BASE, held(), State())
        return result.model - BASE

    np.testing.assert_allclose(first("fedadagrad"), 0.1 * d / (abs(d) + tau))
    np.testing.assert_allclose(
        first("fedyogi", beta1=0.5, beta2=0.75), 0.1 * 0.5 * d / (0.5 * abs(d) + tau)
    )
    lr = 0.1 * math.sqrt(1 - 0.75**2) / (1 - 0.5**2)
    np.testing.assert_allclose(
        first("fedadam", beta1=0.5, beta2=0.75), lr * 0.5 * d / (0.5 * abs(d) + tau)
    )


def test_a_change_is_not_lost_beside_a_large_base() -> None:
    base = np.array([1000.0], np.float32)
    near = np.nextafter(base, np.float32(2000))
    [change] = mean_change(base, HeldUpdates(np.stack([near, base]), (1, 2)))
    assert change == (float(near[0]) - 1000.0) / 3


def test_median_of_an_odd_and_an_even_number() -> None:
    np.testing.assert_array_equal(rounds("median", 1)[0], [1.5, -2.0, 0.5])
    even = strategy("median", {}).aggregate(BASE, held(4), State())
    np.testing.assert_array_equal(even.model, [1.25, -2.25, 0.375])


def test_trimmed_mean_leaves_out_both_ends() -> None:
    expected = np.sort(VECTORS.astype(float), axis=0)[1:4].mean(axis=0)
    np.testing.assert_allclose(rounds("trimmed_mean", 1, cut=0.2)[0], expected)
    np.testing.assert_allclose(
        rounds("trimmed_mean", 1, cut=0.19)[0], VECTORS.mean(axis=0), rtol=1e-6
    )


def test_krum_takes_one_of_the_many() -> None:
    [model] = rounds("krum", 1, f=1)
    assert model.tolist() in VECTORS[:4].tolist()
    [multi] = rounds("multi_krum", 1, f=1, m=1)
    np.testing.assert_array_equal(multi, model)
    [two] = rounds("multi_krum", 1, f=1, m=2)
    assert two.max() < 3, "the one that lies is not among them"


def test_of_equals_krum_takes_the_first() -> None:
    same = np.ones((5, 3), np.float32)
    same[0] = 7
    weights = (1, 1, 2, 3, 4)
    model = strategy("multi_krum", {"f": 1, "m": 2}).aggregate(
        BASE, HeldUpdates(same, weights), State()
    )
    np.testing.assert_array_equal(model.model, same[1])


@pytest.mark.parametrize(
    ("name", "args", "fewest", "needed"),
    [
        ("krum", {"f": 1}, 4, 5),
        ("krum", {"f": 0}, 2, 3),
        ("multi_krum", {"f": 1, "m": 3}, 5, 6),
    ],
)
def test_too_few_updates_for_krum(name: str, args: Any, fewest: int, needed: int) -> None:
    chosen = strategy(name, args)
    chosen.check_counts(needed, needed)
    with pytest.raises(StrategyError, match=f"needs at least {needed} updates"):
        chosen.check_counts(fewest, needed)
    vectors = np.ones((fewest, 3), np.float32)
    with pytest.raises(StrategyError, match=f"needs at least {needed} updates"):
        chosen.aggregate(BASE, HeldUpdates(vectors, [1] * fewest), State())


def test_too_many_updates_for_krum() -> None:
    with pytest.raises(StrategyError, match="each is compared with each"):
        strategy("krum", {}).check_counts(MAX_KRUM, MAX_KRUM + 1)


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum", "multi_krum"])
def test_a_model_of_many_blocks_is_that_of_one(name: str) -> None:
    random = np.random.default_rng(5)
    vectors = random.normal(size=(7, 70_001)).astype(np.float32)
    base = np.zeros(70_001, np.float32)
    updates = HeldUpdates(vectors, [1] * 7)
    assert len(list(updates.blocks())) > 1
    model = strategy(name, {}).aggregate(base, updates, State()).model
    if name == "median":
        np.testing.assert_array_equal(model, np.median(vectors, axis=0))
    elif name == "trimmed_mean":
        ends = np.sort(vectors.astype(float), axis=0)[1:-1]
        np.testing.assert_allclose(model, ends.mean(axis=0), rtol=1e-12, atol=1e-15)
    else:
        apart = ((vectors[:, None].astype(float) - vectors[None]) ** 2).sum(axis=2)
        best = np.argsort(np.sort(apart, axis=1)[:, 1:5].sum(axis=1))
        expected = vectors[best[0]] if name == "krum" else vectors[best[:2]].mean(axis=0)
        np.testing.assert_allclose(model, expected, rtol=1e-5)


# --- the registry


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownStrategyError, match="one of fedavg, fedavgm"):
        strategy("fedbest", {})


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("fedavg", {"lr": 1}, "no argument 'lr' (it takes none)"),
        ("fedadam", {"eta": 1}, "no argument 'eta' (it takes lr, beta1, beta2, tau)"),
        ("fedadam", {"lr": 0}, "strategy_args.lr is 0 (a number, above 0, at most 1000)"),
        ("fedadam", {"lr": "0.1"}, "strategy_args.lr is '0.1'"),
        ("fedadam", {"lr": True}, "strategy_args.lr is True"),
        ("fedadam", {"lr": math.nan}, "strategy_args.lr is nan"),
        ("fedadam", {"tau": 0}, "strategy_args.tau is 0"),
        ("fedadam", {"beta1": 1.0}, "at least 0, below 1"),
        ("fedavgm", {"momentum": -0.1}, "at least 0, below 1"),
        ("trimmed_mean", {"cut": 0.5}, "at least 0, below 0.5"),
        ("krum", {"f": 1.5}, "strategy_args.f is 1.5 (a whole number, at least 0"),
        ("multi_krum", {"m": 0}, "a whole number, at least 1"),
        ("krum", {"f": 10**30}, "at most 1000"),
    ],
)
def test_a_bad_argument_is_refused_by_name(name: str, args: Any, says: str) -> None:
    with pytest.raises(StrategyError) as refused:
        strategy(name, args)
    assert says in str(refused.value)


def test_whole_numbers_may_be_written_either_way() -> None:
    assert strategy("fedadam", {"lr": 1}) == strategy("fedadam", {"lr": 1.0})
    assert strategy("krum", {"f": 2.0}) == strategy("krum", {"f": 2})


def test_every_default_is_one_that_is_taken() -> None:
    for name in strategy_names():
        defaults = {key: default for key, (_, default) in strategy_arguments(name).items()}
        assert strategy(name, defaults) == strategy(name, {})


def test_a_digest_is_that_of_all_arguments() -> None:
    assert strategy_digest("fedadam", {}) == strategy_digest("fedadam", {"lr": 0.1})
    assert strategy_digest("fedadam", {}) != strategy_digest("fedadam", {"lr": 0.2})
    assert strategy_digest("krum", {}) != strategy_digest("multi_krum", {})


def test_arguments_of_a_strategy_of_ones_own() -> None:
    @dataclasses.dataclass(frozen=True)
    class Own(Strategy):
        share: float = number(0.5, least=0, most=1)

        def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
            return Aggregate(self.share * base)

    assert np.array_equal(Own().aggregate(BASE, held(), State()).model, BASE / 2)
