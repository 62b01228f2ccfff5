"""The example of a strategy of one's own, found as an installed package's is, and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from propeller_fl.errors import StrategyError, UnknownStrategyError
from propeller_fl.learn import GROUP, strategy, strategy_names
from tests.coordinator.engine_desk import Desk, start, update

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "clipped_mean"


def install(directory: Path, entry_points: dict[str, str], **modules: str) -> None:
    """What an installer leaves: the modules, and metadata beside them."""
    metadata = directory / "clipped_mean-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: clipped-mean\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entry_points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The example, installed as its own pyproject.toml says."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(
        tmp_path / "site",
        project["entry-points"][GROUP],
        clipped_mean=(EXAMPLE / "clipped_mean.py").read_text(),
    )
    return tmp_path / "site"


def test_it_is_one_of_those_there_are(site: Path) -> None:
    command = [sys.executable, "-m", "propeller_fl", "round", "strategies", "--json"]
    path = os.pathsep.join([str(site), *sys.path])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=True, timeout=60
    )
    found = json.loads(done.stdout)
    assert found["clipped_mean"] == {
        "norm": {"default": 1.0, "wanted": "a number, above 0, at most 1e+06"}
    }
    assert "fedadam" in found


def test_rounds_use_it_and_it_remembers(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    desk = Desk()
    desk.model(0)
    for number, moved in ((1, 0.5), (2, 1.0)):  # 1 each: cut to length 1, so 0.5 of each of four
        uri = f"fl/models/global_model_v{number - 1}"
        desk.start(start(f"r-{number}", model_uri=uri, strategy="clipped_mean"))
        far = {"w": [100.0] * 3, "b": 100.0}
        desk.update(update("a", f"r-{number}", base_model_uri=uri, update=far))
        assert desk.heard("fl/models/publish")[-1]["b"] == moved
    [(numbers,)] = desk.database.execute(
        "SELECT numbers FROM strategy_states WHERE uri = 'fl/models/global_model_v2'"
    )
    assert json.loads(numbers) == {"rounds_cut": 2.0}
    with pytest.raises(StrategyError, match=r"strategy_args\.norm is 0"):
        strategy("clipped_mean", {"norm": 0})


def test_without_its_package_there_is_no_such_strategy() -> None:
    with pytest.raises(UnknownStrategyError):
        strategy("clipped_mean", {})


def test_the_documentation_shows_this_very_example() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text()
    for name in ("clipped_mean.py", "pyproject.toml"):
        assert (EXAMPLE / name).read_text() in text


BROKEN = """
from dataclasses import dataclass
from propeller_fl.learn import Aggregate, Strategy

@dataclass(frozen=True)
class Raises(Strategy):
    def aggregate(self, base, updates, state):
        raise ZeroDivisionError("nobody has thought of this")

@dataclass(frozen=True)
class Shrinks(Strategy):
    def aggregate(self, base, updates, state):
        return Aggregate(base[:-1])

@dataclass(frozen=True)
class Writes(Strategy):
    def aggregate(self, base, updates, state):
        base[0] = 1
        return Aggregate(base)

@dataclass(frozen=True)
class Nothing(Strategy):
    def aggregate(self, base, updates, state):
        return None

@dataclass(frozen=True)
class Checks(Strategy):
    def check_counts(self, fewest, most):
        raise KeyError("nor of this")

    def aggregate(self, base, updates, state):
        return Aggregate(base)

@dataclass(frozen=True)
class Unfinished(Strategy):
    pass

class Plain:
    pass
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    names = {"raises": "Raises", "shrinks": "Shrinks", "writes": "Writes", "nothing": "Nothing"}
    names |= {
        "unfinished": "Unfinished",
        "checks": "Checks",
        "plain": "Plain",
        "absent": "Absent",
        "fedavg": "Raises",
    }
    points = {name: f"broken_strategies:{kind}" for name, kind in names.items()}
    install(tmp_path / "site", points, broken_strategies=BROKEN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    desk = Desk()
    desk.model(0)
    return desk


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "strategy raises failed: nobody has thought of this"),
        ("shrinks", "the new model is of shape (3,), not (4,)"),
        ("writes", "read-only"),
        ("nothing", "strategy nothing failed"),
    ],
)
def test_a_strategy_that_fails_fails_its_round_alone(broken: Desk, name: str, says: str) -> None:
    broken.start(start(strategy=name))
    broken.update(update("a"))
    [complete] = broken.heard("fl/rounds/r-1/complete")
    assert complete["status"] == "failed"
    assert says in complete["detail"]
    broken.run_round("r-2")
    assert broken.heard("fl/rounds/r-2/complete")[0]["status"] == "complete"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("checks", "nor of this"),
        ("unfinished", "strategy unfinished cannot be made"),
        ("plain", "no dataclass derived from Strategy"),
        ("absent", "cannot be loaded"),
    ],
)
def test_one_that_cannot_be_used_is_refused(broken: Desk, name: str, says: str) -> None:
    broken.start(start(strategy=name))
    status = broken.heard("fl/rounds/r-1/status")[-1]
    assert (status["phase"], status["reason"]) == ("refused", "bad_field")
    assert says in status["detail"]


def test_a_built_in_name_is_never_anothers(broken: Desk) -> None:
    assert strategy_names().count("fedavg") == 1
    broken.run_round("r-1")
    assert broken.heard("fl/rounds/r-1/complete")[0]["status"] == "complete"
