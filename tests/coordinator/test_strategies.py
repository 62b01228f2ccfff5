"""Strategies in the engine's hands: admitted or refused, remembered, and never a poisoned model."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

from tests.coordinator.engine_desk import BASE, V0, Desk, start, update

MOMENTUM: dict[str, Any] = {"strategy": "fedavgm", "strategy_args": {"lr": 1.0, "momentum": 0.5}}


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.model(0)
    return desk


def run_round(desk: Desk, number: int, base: int, **changes: Any) -> Any:
    """One round on that version, in which a answers with its model + 1; returns its completion."""
    round_id, uri = f"r-{number}", f"fl/models/global_model_v{base}"
    desk.start(start(round_id, model_uri=uri, **changes))
    moved = {name: (np.array(value) + 1).tolist() for name, value in arrays(desk, base).items()}
    desk.update(update("a", round_id, base_model_uri=uri, update=moved))
    [complete] = desk.heard(f"fl/rounds/{round_id}/complete")
    return complete


def arrays(desk: Desk, version: int) -> Any:
    """The arrays of a model that was published."""
    body = {"w": [0.0, 0.0, 0.0], "b": 0.0}
    for model in desk.heard("fl/models/publish"):
        if model["version"] == version:
            body = {name: model[name] for name in body}
    return body


def refusal(desk: Desk, **changes: Any) -> tuple[str, str]:
    desk.start(start("r-1", **changes))
    status = desk.heard("fl/rounds/r-1/status")[-1]
    assert status["phase"] == "refused", status
    return status["reason"], status["detail"]


def test_an_unknown_strategy_is_refused_before_anything_is_launched(desk: Desk) -> None:
    reason, detail = refusal(desk, strategy="fedbest")
    assert reason == "unknown_strategy"
    assert "fedavg, fedavgm, fedprox" in detail


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"strategy": "fedavg", "strategy_args": {"lr": 1}}, "no argument 'lr'"),
        ({"strategy": "fedadam", "strategy_args": {"lr": -1}}, "strategy_args.lr is -1"),
        ({"strategy": "fedavg", "strategy_args": {"lr": [1]}}, "strategy_args .lr is a list"),
        ({"strategy": "fedavg", "strategy_args": 7}, "strategy_args is a int"),
        ({"strategy": "krum", "k_of_n": 3}, "needs at least 5 updates"),
        (
            {"strategy": "krum", "k_of_n": 3, "min_updates": 2, "strategy_args": {"f": 0}},
            "needs at least 3 updates, and the round may end with 2",
        ),
        (
            {"strategy": "fedprox", "strategy_args": {"mu": 1}, "hyperparams": {"mu": 2}},
            "hyperparams.mu is 2",
        ),
    ],
)
def test_what_cannot_be_is_refused(desk: Desk, changes: Any, says: str) -> None:
    reason, detail = refusal(desk, **changes)
    assert reason == "bad_field"
    assert says in detail


def test_momentum_goes_on_from_round_to_round_and_through_a_restart(desk: Desk) -> None:
    for number, expected in ((1, 1.0), (2, 2.5), (3, 4.25)):  # 1, then 1.5, then 1.75 more
        run_round(desk, number, number - 1, **MOMENTUM)
        assert arrays(desk, number) == {"w": [expected] * 3, "b": expected}
        desk.restart()


def test_the_same_strategy_on_another_model_or_with_other_arguments_begins_afresh(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "propeller_fl")
    run_round(desk, 1, 0, **MOMENTUM)
    run_round(desk, 2, 1, strategy="fedavgm", strategy_args={"momentum": 0.25})
    assert arrays(desk, 2)["b"] == 2.0
    run_round(desk, 3, 2, strategy="fedavg")
    run_round(desk, 4, 3, **MOMENTUM)
    assert arrays(desk, 4)["b"] == 4.0
    afresh = [r.__dict__["round_id"] for r in caplog.records if "begins afresh" in r.message]
    assert afresh == ["r-1", "r-2", "r-4"]
    run_round(desk, 5, 1, **MOMENTUM)  # from an older model, with what belonged to it
    assert arrays(desk, 5)["b"] == 2.5


def test_with_the_arguments_spelt_out_it_is_the_same_strategy(desk: Desk) -> None:
    run_round(desk, 1, 0, strategy="fedavgm")
    run_round(desk, 2, 1, strategy="fedavgm", strategy_args={"lr": 1, "momentum": 0.9})
    assert arrays(desk, 2)["b"] == pytest.approx(2.9)


def test_what_is_not_finite_fails_the_round_and_leaves_no_trace(desk: Desk) -> None:
    args = {"lr": 1000.0, "momentum": 0.9}
    desk.start(start(strategy="fedavgm", strategy_args=args))
    desk.update(update("a", update={"w": [1e38, 0.0, 0.0], "b": 0.0}))
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert complete["status"] == "failed"
    assert "1 of 4 parameters of the new model are not finite" in complete["detail"]
    assert complete["model_topic"] == "fl/models/global_model_v0"
    assert desk.heard("fl/models/publish") == []
    assert desk.count("strategy_states") == 0


def test_a_deadline_with_too_few_for_krum_fails_the_round(desk: Desk) -> None:
    names = list("abcde")
    desk.start(start(strategy="krum", participants=names, k_of_n=5))
    desk.update(update("a"), update("b"))
    desk.now_s += 61
    desk.send()
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert complete["status"] == "failed"
    assert "needs at least 5 updates" in complete["detail"]


def test_one_liar_of_five_does_not_move_krum(desk: Desk) -> None:
    names = list("abcde")
    desk.start(start(strategy="krum", participants=names, k_of_n=5))
    for number, name in enumerate(names):
        value = 1e6 if name == "c" else 1.0 + number / 10
        desk.update(update(name, update={"w": [value] * 3, "b": value}))
    assert 1.0 <= arrays(desk, 1)["b"] < 1.5


def test_an_evaluation_has_no_use_for_a_strategy_and_harms_it_not(desk: Desk) -> None:
    desk.start(start(mode="evaluate", **MOMENTUM))
    desk.update(update("a", update={}))
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert complete["status"] == "complete"
    assert desk.count("strategy_states") == 0


def test_a_base_model_that_changed_in_the_store_fails_the_round(desk: Desk) -> None:
    desk.start(start())
    desk.store.put_model(BASE, json.dumps(V0 | {"b": 1.0}).encode(), None)
    desk.update(update("a"))
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert "has other bytes than when the round began" in complete["detail"]
