"""The examples, with the settings that they name, and what is to be had of them afterwards."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from propeller_fl import config
from propeller_fl.cli import main
from propeller_fl.deployment import Deployment, Role

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "experiments"


def settings_of(example: Path) -> dict[str, str]:
    """What the `up` in its first lines sets."""
    [up] = [line for line in example.read_text().splitlines() if line.endswith(" up")]
    words = shlex.split(up.removeprefix("#"))
    values = [after for word, after in itertools.pairwise(words) if word == "--set"]
    return dict(value.split("=", 1) for value in values)


@contextlib.contextmanager
def up(directory: Path, **settings: str) -> Iterator[Deployment]:
    """As `propeller-fl up` with these settings, but for those that a test has to change."""
    flags = settings | {
        "data_dir": str(directory),
        "broker.port": "0",
        "model_server.models_dir": str(directory / "models"),
        "model_server.http_port": "0",
        "manager.liveness_timeout_s": "6",  # so that who is alive is known after two seconds
        "proplet.heartbeat_s": "1",
    }
    with Deployment(config.load(environ={}, flags=flags), Role.ALL) as deployment:
        yield deployment


@dataclass(frozen=True)
class Shell:
    """Runs commands of ours on a deployment."""

    directory: Path
    broker: str

    def __call__(self, *arguments: str) -> Result:
        runner = CliRunner(env={})
        where = ["--data-dir", str(self.directory), "--broker", self.broker]
        return runner.invoke(main, [*where, "experiment", *arguments], catch_exceptions=False)

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


def shell(deployment: Deployment) -> Shell:
    address = deployment.address
    return Shell(deployment.settings.data_dir, f"mqtt://{address.host}:{address.port}")


def run(commands: Shell, name: str, experiment_id: str, rounds: int) -> None:
    ended = commands(
        "start", str(EXAMPLES / f"{name}.toml"), "--id", experiment_id, "--rounds", str(rounds),
        "--watch",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.output


@pytest.fixture(scope="module")
def iid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The first example, run twice in one deployment."""
    example = EXAMPLES / "digits_iid.toml"
    with up(tmp_path_factory.mktemp("iid"), **settings_of(example)) as deployment:
        commands = shell(deployment)
        run(commands, "digits_iid", "first", 2)
        run(commands, "digits_iid", "second", 1)
        yield commands


def test_even_digits_are_learned(iid: Shell) -> None:
    shown = iid.json("show", "first")
    assert [one["round_id"] for one in shown["rounds"]] == [
        "first-r1", "first-e1", "first-r2", "first-e2"
    ]  # fmt: skip
    assert {one["complete"]["status"] for one in shown["rounds"]} == {"complete"}
    assert {len(one["participants"]) for one in shown["rounds"]} == {3}
    evaluated = [one["complete"] for one in shown["rounds"] if one["mode"] == "evaluate"]
    assert [one["total_samples"] for one in evaluated] == [450, 450], "those that nobody trained on"
    assert evaluated[-1]["metrics"]["accuracy"] > 0.7  # by chance: 0.1
    phases = {one["experiment_id"]: one["phase"] for one in iid.json("list")}
    assert (phases["first"], phases["second"]) == ("complete", "complete")
    assert "first-r1" in iid("show", "first").output


def test_one_that_runs_is_paused_resumed_and_stopped(iid: Shell, tmp_path: Path) -> None:
    document = (EXAMPLES / "digits_iid.toml").read_text()
    example = tmp_path / "long.toml"
    example.write_text(document.replace("target = 0.95", "target = 2"))
    assert iid("start", str(example), "--id", "long", "--rounds", "90000").stdout == "long\n"
    for command, phase in (("pause", "paused"), ("resume", "running"), ("stop", "stop")):
        obeyed = iid(command, "long")
        assert obeyed.exit_code == 0, obeyed.output
        assert obeyed.stdout.startswith(phase)
    assert iid("watch", "long").exit_code == 0
    late = iid("resume", "long")
    assert late.exit_code == 1, "it has ended for good"
    assert late.stdout.startswith("stopped")


def test_curves_are_compared_in_one_picture(iid: Shell, tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    compared = iid("compare", "first", "second", "-o", str(picture))
    assert compared.exit_code == 0, compared.output
    rows = [line.split("\t") for line in compared.stdout.splitlines()]
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[1][2] == "", "the second had one round"
    assert picture.read_text().startswith("<?xml")
    points = iid.json("compare", "first", "--metric", "loss")["first"]["points"]
    assert points[0][1] > points[1][1]
    unknown = iid("compare", "first", "--metric", "speed")
    assert unknown.exit_code == 1
    assert "no round of first reports speed (they report accuracy, loss" in unknown.output


def test_an_experiment_is_exported(iid: Shell, tmp_path: Path) -> None:
    rows = list(csv.DictReader(iid("export", "first").stdout.splitlines()))
    assert [(row["number"], row["mode"]) for row in rows] == [
        ("1", "train"), ("1", "evaluate"), ("2", "train"), ("2", "evaluate")
    ]  # fmt: skip
    assert {row["param.lr"] for row in rows} == {"0.5"}
    assert float(rows[-1]["metric.accuracy"]) > 0.7
    file = tmp_path / "first.json"
    assert iid("export", "first", "-o", str(file)).exit_code == 0
    document = json.loads(file.read_text())
    assert len(document["rounds"]) == 4
    assert document["proplets"] == iid.json("proplets", "first")


def test_what_each_proplet_did_is_told(iid: Shell) -> None:
    told = iid.json("proplets", "first")
    assert [one["proplet_id"] for one in told] == ["proplet-1", "proplet-2", "proplet-3"]
    assert [(one["asked"], one["answered"], one["missed"]) for one in told] == [(2, 2, 0)] * 3
    assert sum(one["samples"] for one in told) == 2 * 1347
    assert sum(one["share"] for one in told) == pytest.approx(1, abs=1e-5)
    assert all(one["mean_seconds"] > 0 and one["refused"] == {} for one in told)
    rows = csv.DictReader(iid("export", "first", "--proplets").stdout.splitlines())
    assert [row["proplet_id"] for row in rows] == [one["proplet_id"] for one in told]


@pytest.mark.parametrize(("name", "rounds"), [("digits_skewed", 2), ("linear", 5)])
def test_the_others_learn(name: str, rounds: int, tmp_path: Path) -> None:
    with up(tmp_path, **settings_of(EXAMPLES / f"{name}.toml")) as deployment:
        commands = shell(deployment)
        run(commands, name, "x", rounds)
    shown = commands.json("show", "x")
    trained = [one for one in shown["rounds"] if one["mode"] == "train"]
    assert len(trained) == rounds
    losses = [one["complete"]["metrics"]["loss"] for one in trained]
    assert losses[-1] < losses[0]
    assert shown["rounds"][-1]["mode"] == "evaluate"
    assert "accuracy" in shown["rounds"][-1]["complete"]["metrics"] or name == "linear"


def test_exercises_are_recognised_of_somebody_whom_no_training_saw(tmp_path: Path) -> None:
    """Two rounds of nine people, and an evaluation by the tenth; by chance it would be 0.14."""
    with up(tmp_path, **settings_of(EXAMPLES / "activity.toml")) as deployment:
        commands = shell(deployment)
        run(commands, "activity", "x", 2)
    first, second, evaluated = commands.json("show", "x")["rounds"]
    trained = [f"proplet-{number}" for number in range(1, 10)]
    assert first["participants"] == second["participants"] == trained
    assert second["complete"]["metrics"]["loss"] < first["complete"]["metrics"]["loss"]
    assert evaluated["participants"] == ["proplet-10"]
    assert evaluated["complete"]["total_samples"] == 510, "windows"
    assert evaluated["complete"]["metrics"]["accuracy"] > 0.6
