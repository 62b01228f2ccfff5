"""What an experiment does next: the pure machine, and that it is restored from its rounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from propeller_fl.errors import MessageError
from propeller_fl.experiments import (
    BeginRound,
    Commanded,
    Experiment,
    FleetSeen,
    RoundEnded,
    RoundFailed,
    begin,
    restore,
    step,
)
from propeller_fl.wire import (
    Command,
    ExperimentPhase,
    ExperimentStart,
    Mode,
    Outcome,
    RoundComplete,
    RoundStart,
)


def experiment(**changes: Any) -> ExperimentStart:
    document = {
        "experiment_id": "x",
        "task_wasm_image": "builtin:softmax",
        "hyperparams": {"lr": 0.8, "epochs": 4},
        "stop": {"rounds": 3},
    } | changes
    return ExperimentStart.decode(json.dumps(document).encode())


def complete(start: RoundStart, *, status: Outcome = Outcome.COMPLETE, **metrics: float) -> Any:
    version = int(start.model_uri.rpartition("_v")[2])
    version += start.mode is Mode.TRAIN and status is not Outcome.FAILED
    return RoundComplete(
        start.round_id, status, version, f"fl/models/global_model_v{version}", 2, 20, "",
        metrics=metrics,
    )  # fmt: skip


class Run:
    """Lets rounds happen, and keeps them as the store would."""

    def __init__(self, fleet: int = 4, **changes: Any) -> None:
        self.now: Experiment = begin(experiment(**changes))
        self.fleet: dict[str, dict[str, str]] = {f"p-{n}": {} for n in range(fleet)}
        self.rounds: list[tuple[RoundStart, RoundComplete | None]] = []

    def begin(self) -> RoundStart | None:
        transition = step(self.now, FleetSeen(self.fleet))
        self.now = transition.experiment
        for effect in transition.effects:
            assert isinstance(effect, BeginRound)
            self.rounds.append((effect.start, None))
            return effect.start
        return None

    def end(self, status: Outcome = Outcome.COMPLETE, **metrics: float) -> None:
        start, _ = self.rounds.pop()
        ended = complete(start, status=status, **metrics)
        self.now = step(self.now, RoundEnded(ended)).experiment
        self.rounds.append((start, ended))

    def round(self, status: Outcome = Outcome.COMPLETE, **metrics: float) -> RoundStart:
        start = self.begin()
        assert start is not None, self.now
        self.assert_restored()
        self.end(status, **metrics)
        self.assert_restored()
        return start

    def assert_restored(self) -> None:
        now = self.now
        assert restore(now.start, now.phase, now.reason, now.detail, self.rounds) == now

    def command(self, command: Command) -> ExperimentPhase:
        self.now = step(self.now, Commanded(command)).experiment
        self.assert_restored()
        return self.now.phase


def test_rounds_follow_one_another_on_the_last_model() -> None:
    run = Run()
    starts = [run.round(loss=1.0) for _ in range(3)]
    assert [start.round_id for start in starts] == ["x-r1", "x-r2", "x-r3"]
    uris = [start.model_uri for start in starts]
    assert uris == [f"fl/models/global_model_v{n}" for n in range(3)]
    assert (run.now.phase, run.now.reason) == (ExperimentPhase.COMPLETE, "rounds")
    assert run.begin() is None


def test_the_same_event_twice_does_nothing() -> None:
    run = Run()
    start = run.round()
    before = run.now
    assert step(before, RoundEnded(complete(start))).experiment == before


def test_hyperparameters_follow_their_schedules() -> None:
    schedule = {
        "lr": {"factor": 0.5, "every": 2, "limit": 0.3},
        "epochs": {"steps": [[2, 3], [4, 1]]},
    }
    run = Run(schedule=schedule, stop={"rounds": 6})
    starts = [run.round() for _ in range(6)]
    assert [start.hyperparams["lr"] for start in starts] == [0.8, 0.8, 0.4, 0.4, 0.3, 0.3]
    assert [start.hyperparams["epochs"] for start in starts] == [4, 3, 3, 1, 1, 1]


def test_it_evaluates_every_so_often_and_at_the_end() -> None:
    run = Run(evaluate={"every": 2, "timeout_s": 7})
    starts = [run.round(accuracy=0.5) for _ in range(5)]
    assert [start.round_id for start in starts] == ["x-r1", "x-r2", "x-e2", "x-r3", "x-e3"]
    assert [start.timeout_s for start in starts] == [60, 60, 7, 60, 7]
    assert starts[2].model_uri == starts[3].model_uri == "fl/models/global_model_v2"
    assert run.now.phase is ExperimentPhase.COMPLETE


def test_others_may_evaluate_than_those_who_train() -> None:
    """Two who never train are asked, both of them, whatever share trains."""
    train = {"tags": {"role": "trains"}, "min_updates": 3, "k_fraction": 0.5}
    run = Run(participants=train, evaluate={"every": 1, "ids": ["p-8", "p-9"]})
    run.fleet = {f"p-{n}": {"role": "trains" if n < 3 else ""} for n in range(10)}
    starts = [run.round(accuracy=0.5) for _ in range(4)]
    assert [start.participants for start in starts] == [("p-0", "p-1", "p-2"), ("p-8", "p-9")] * 2
    assert [(start.k_of_n, start.min_updates) for start in starts[:2]] == [(3, 3), (2, 1)]


@pytest.mark.parametrize("ids", [["a", "a"], ["a/b"], "a", [1]])
def test_evaluators_that_cannot_be_are_refused(ids: Any) -> None:
    with pytest.raises(MessageError, match=r"ids"):
        experiment(evaluate={"every": 1, "ids": ids})


def test_a_target_counts_where_it_is_measured() -> None:
    stop = {"rounds": 9, "metric": "accuracy", "target": 0.9}
    run = Run(stop=stop, evaluate={"every": 1})
    run.round(accuracy=0.99)  # of training: not what counts
    run.round(accuracy=0.89)
    run.round(accuracy=0.99)
    run.round(accuracy=0.91)
    assert (run.now.phase, run.now.reason) == (ExperimentPhase.COMPLETE, "target")
    assert (run.now.best, run.now.best_round) == (0.91, 2)


def test_it_ends_without_progress() -> None:
    stop = {"rounds": 9, "metric": "loss", "goal": "min", "patience": 2, "min_delta": 0.1}
    run = Run(stop=stop)
    for loss in (1.0, 0.5, 0.45):
        run.round(loss=loss)
        assert run.now.phase is ExperimentPhase.RUNNING
    run.round(loss=0.41)
    assert (run.now.phase, run.now.reason) == (ExperimentPhase.COMPLETE, "no_progress")
    assert run.now.best == 0.5


def test_a_failed_round_is_followed_by_another_on_the_same_model() -> None:
    run = Run(stop={"rounds": 9, "max_failures": 2})
    run.round(Outcome.FAILED)
    assert run.round().model_uri == "fl/models/global_model_v0"
    run.round(Outcome.FAILED)
    run.round(Outcome.FAILED)
    assert (run.now.phase, run.now.reason) == (ExperimentPhase.FAILED, "max_failures")


def test_a_refused_round_ends_it() -> None:
    run = Run()
    run.begin()
    failed = step(run.now, RoundFailed("x-r1", "unknown_model", "there is none")).experiment
    assert (failed.phase, failed.reason) == (ExperimentPhase.FAILED, "unknown_model")
    assert failed.under_way is None


def test_pause_resume_and_stop() -> None:
    run = Run()
    run.begin()
    assert run.command(Command.PAUSE) is ExperimentPhase.PAUSED
    run.end()
    assert run.begin() is None
    assert run.command(Command.RESUME) is ExperimentPhase.RUNNING
    assert run.begin() is not None
    assert run.command(Command.STOP) is ExperimentPhase.STOPPING
    assert run.command(Command.RESUME) is ExperimentPhase.STOPPING
    run.end()
    assert (run.now.phase, run.now.rounds) == (ExperimentPhase.STOPPED, 2)
    assert Run().command(Command.STOP) is ExperimentPhase.STOPPED


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ({}, 4),
        ({"fraction": 0.5}, 2),
        ({"fraction": 0.01}, 1),
        ({"fraction": 0.1, "at_least": 3}, 3),
        ({"fraction": 0.1, "min_updates": 2}, 2),
        ({"at_most": 3}, 3),
        ({"at_least": 5}, 0),
    ],
)
def test_how_many_take_part(rule: dict[str, Any], count: int) -> None:
    start = Run(participants=rule).begin()
    assert (len(start.participants) if start else 0) == count


def test_who_takes_part_changes_from_round_to_round_and_can_be_repeated() -> None:
    runs = [Run(fleet=40, participants={"fraction": 0.1}) for _ in range(2)]
    first, again = ([run.round().participants for _ in range(3)] for run in runs)
    assert first == again
    assert len(set(first)) == 3


def test_tags_and_memory_choose() -> None:
    rule = {"tags": {"site": "north"}, "min_memory_bytes": 1000}
    run = Run(participants=rule)
    run.fleet = {
        "fits": {"site": "north", "memory_bytes": "1000", "more": "x"},
        "small": {"site": "north", "memory_bytes": "999"},
        "silent": {"site": "north"},
        "south": {"site": "south", "memory_bytes": "1000"},
    }
    start = run.begin()
    assert start is not None
    assert start.participants == ("fits",)


def test_k_is_a_share_of_the_participants() -> None:
    start = Run(fleet=10, participants={"k_fraction": 0.25, "min_updates": 2}).begin()
    assert start is not None
    assert (start.k_of_n, start.min_updates) == (3, 2)
    assert RoundStart.decode(start.encode()) == start


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stop": {"rounds": 0}}, "rounds"),
        ({"stop": {"rounds": 1, "target": 0.9}}, "stop.metric"),
        ({"stop": {"rounds": 1, "rouds": 2}}, "stop.rouds"),
        ({"hyperparam": {}}, "hyperparam"),
        ({"participants": {"ids": ["a"], "fraction": 0.5}}, "participants"),
        ({"participants": {"ids": ["a", "a"]}}, "participants.ids"),
        ({"participants": {"fraction": 1.5}}, "participants.fraction"),
        ({"participants": {"at_least": 3, "at_most": 2}}, "participants.at_most"),
        ({"schedule": {"lr": {"steps": [[3, 1], [2, 1]]}}}, "schedule.lr.steps"),
        ({"schedule": {"lr": {}}}, "schedule.lr"),
        ({"schedule": {"momentum": {"factor": 0.5}}}, "schedule"),
        ({"experiment_id": "x" * 55}, "experiment_id"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageError) as refused:
        experiment(**changes)
    assert refused.value.field == field


def test_the_canonical_form_is_read_as_it_was() -> None:
    start = experiment(
        participants={"tags": {"a": "b"}, "fraction": 0.5, "at_most": 9},
        schedule={"lr": {"factor": 0.5, "limit": 0.1}, "epochs": {"steps": [[2, 1]]}},
        evaluate={"every": 2},
        stop={"rounds": 5, "metric": "accuracy", "target": 0.5, "patience": 2},
    )
    assert ExperimentStart.decode(start.encode()) == start
