"""What a strategy adds to the hyperparameters of a task."""

from __future__ import annotations

import json
from dataclasses import replace

from propeller_fl.wire import LaunchReport, Mode

from .conftest import TOPICS, Stage, round_start


def test_modules_are_told_the_mu_of_fedprox_when_they_train(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    fedprox = replace(round_start(), strategy="fedprox", strategy_args={"mu": 0.25})
    stage.open_round(fedprox)
    stage.open_round(replace(fedprox, round_id="r-2", mode=Mode.EVALUATE))
    found = {task.name: json.loads(task.env["HYPERPARAMS"]) for task in stage.tasks(2)}
    assert found == {
        "r-1": {"epochs": 1, "lr": 0.5, "mu": 0.25},
        "r-2": {"epochs": 1, "lr": 0.5},
    }


def test_a_strategy_that_is_not_installed_here_launches_nothing_and_says_so(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(replace(round_start(), strategy="theirs"))
    payload = stage.peer.expect_like(
        TOPICS.launch("r-1"), lambda payload: bool(LaunchReport.decode(payload).error)
    )
    error = LaunchReport.decode(payload).error
    assert "no strategy 'theirs'" in error
    assert "installed here" in error
    assert stage.tasks_so_far() == []
