"""`propeller-fl test local`: a whole round with a module, and a verdict."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import propeller_fl
from propeller_fl.cli import main
from tests.end_to_end.modules import BAD_IMPORT, TRAP, prints, save

MODULES = Path(propeller_fl.__file__).parent / "modules"


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


def run(wasm: Path | str, *arguments: str) -> Result:
    # what the environment says is not asked: the round stays on this machine
    env = {"MQTT_BROKER": "mqtt://127.0.0.1:1", "PROPELLER_FL_TOPIC_PREFIX": "m/t/c/x"}
    return CliRunner(env=env).invoke(main, ["test", "local", "--wasm", str(wasm), *arguments])


def test_a_good_module_passes_and_leaves_nothing(tmp_path: Path) -> None:
    result = run(MODULES / "linear.wasm", "--timeout-s", "100", "--param", "lr=0.1")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-1] == "PASSED"
    assert "round: complete, 3 updates" in result.output
    assert "fl/models/global_model_v1" in result.output
    assert "note:" not in result.output  # the model has changed
    assert not list((tmp_path / "scratch").glob("propeller-fl-test-*"))


def test_a_module_for_another_model_fails_with_its_own_words(tmp_path: Path) -> None:
    result = run(MODULES / "softmax.wasm", "--timeout-s", "100", "--proplets", "1")
    assert result.exit_code == 1
    assert 'proplet-1: the module ended with status 1: model: "W" is missing' in result.output
    assert "FAILED: a proplet has failed (is --model one that" in result.output
    (kept,) = (tmp_path / "scratch").glob("propeller-fl-test-*")
    assert f"kept: {kept}" in result.output
    assert (kept / "manager" / "launches.db").exists()


def test_an_update_that_is_refused_fails_with_the_reason(tmp_path: Path) -> None:
    update = {"round_id": "test-local", "base_model_uri": "fl/models/global_model_v0",
              "num_samples": 0, "metrics": {}, "update": {"w": [0, 0, 0], "b": 0}}  # fmt: skip
    result = run(prints(tmp_path, update), "--timeout-s", "100", "--proplets", "1")
    assert result.exit_code == 1
    assert "num_samples" in result.output  # of the status or of the task, whichever was first


@pytest.mark.parametrize(("wat", "says"), [(BAD_IMPORT, "clock_time_get"), (TRAP, "trap")])
def test_a_module_that_cannot_run_is_told_why(tmp_path: Path, wat: str, says: str) -> None:
    result = run(save(tmp_path, wat), "--timeout-s", "100", "--proplets", "1")
    assert result.exit_code == 1
    assert says in result.output
    assert "FAILED: " in result.output
