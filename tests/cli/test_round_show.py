"""The story of a round as `round show` and `round list` tell it, with nothing running."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from propeller_fl.cli import main
from propeller_fl.rounds import ClockTicked, Opening, Round, UpdateArrived, UpdateFacts, step
from propeller_fl.rounds import UpdateUnreadable as Unreadable
from propeller_fl.store import LaunchState, LaunchStore, NewUpdate, RoundStore
from propeller_fl.store._launches import RoundOpened, StartTaken, TaskMoved
from propeller_fl.wire import Outcome, RoundComplete, RoundStart

SHAPES = {"w": (3,), "b": ()}
BEGIN_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z
FORGED = "\x1b[2J\n2023-11-14T22:13:20Z  round r-9 opened"


def start(round_id: str, **changes: object) -> RoundStart:
    document = {
        "round_id": round_id,
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": "builtin:linear",
        "participants": ["a", "b", "c"],
        "hyperparams": {"epochs": 2, "lr": 0.5},
        "k_of_n": 2,
        "timeout_s": 60,
    }
    return RoundStart.decode(json.dumps(document | changes).encode())


class Record:
    """Writes a round as coordinator and manager would."""

    def __init__(self, directory: Path, start: RoundStart) -> None:
        self.store = RoundStore(directory / "coordinator" / "rounds.db")
        self.launches = LaunchStore(directory / "manager" / "launches.db")
        self.round = Round(Opening(start, BEGIN_S, SHAPES))
        self.store.open_round(self.round.opening)
        digest = start.digest()
        self.launches.commit([StartTaken(start, digest), RoundOpened(start.round_id, digest)])

    def update(self, proplet_id: str, after_s: float, samples: int = 10) -> None:
        start = self.round.opening.start
        sha256 = "0" * 64
        facts = UpdateFacts(
            start.round_id, proplet_id, start.model_uri, samples, SHAPES, sha256, 100
        )
        self.round = step(self.round, UpdateArrived(facts)).round
        self.store.keep_updates(
            [NewUpdate(facts, {"loss": 0.5}, np.zeros(4, np.float32))], BEGIN_S + after_s
        )
        self.store.save_phase(self.round)

    def refusal(self, proplet_id: str, after_s: float, reason: str, detail: str) -> None:
        event = Unreadable(proplet_id, "0" * 64, reason, detail)
        self.round = step(self.round, event).round
        round_id = self.round.opening.start.round_id
        self.store.record_refusal(round_id, proplet_id, reason, detail, BEGIN_S + after_s)

    def task(self, proplet_id: str, state: LaunchState, error: str = "") -> None:
        round_id = self.round.opening.start.round_id
        self.launches.commit([TaskMoved(round_id, proplet_id, state, error)])

    def end(self, status: Outcome, detail: str = "") -> None:
        made = status is not Outcome.FAILED
        complete = RoundComplete(
            self.round.opening.start.round_id,
            status,
            int(made),
            f"fl/models/global_model_v{int(made)}",
            len(self.round.accepted),
            10 * len(self.round.accepted),
            "2023-11-14T22:14:20.500000Z",
            metrics={"loss": 0.5} if self.round.accepted else {},
            missing=self.round.missing,
            detail=detail,
        )
        self.round = step(self.round, ClockTicked(9e9)).round
        self.store.save_phase(self.round)
        self.store.save_completion(complete)

    def close(self) -> None:
        self.store.close()
        self.launches.close()


def invoke(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data-dir", str(directory), *arguments])


def told(directory: Path, round_id: str) -> list[str]:
    result = invoke(directory, "round", "show", round_id)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_a_round_that_is_complete(tmp_path: Path) -> None:
    record = Record(tmp_path, start("r-1"))
    record.refusal("x", 0.25, "not_participant", "x does not take part in this round")
    record.update("a", 0.5)
    record.update("b", 60.0)
    record.task("c", LaunchState.FAILED, "it trapped")
    record.end(Outcome.COMPLETE)
    record.close()
    assert told(tmp_path, "r-1") == [
        "2023-11-14T22:13:20Z  round r-1 opened: 2 of 3 updates wanted within 60 s",
        "  builtin:linear trains fl/models/global_model_v0, epochs=2, lr=0.5; updates in json",
        "  +     0.250 s  x refused: not_participant: x does not take part in this round",
        "  +     0.500 s  a accepted: 10 samples (1 of 2)",
        "  +    60.000 s  b accepted: 10 samples (2 of 2)",
        "  +    60.500 s  complete: 2 updates, 20 samples → fl/models/global_model_v1",
        "                mean over samples: loss 0.5",
        "  without 1 of 3 participants:",
        "    c: its task failed: it trapped",
    ]


def test_a_strategy_other_than_the_usual_is_told_with_its_arguments(tmp_path: Path) -> None:
    args = {"lr": 0.2, "tau": 0.01}
    Record(tmp_path, start("r-1", strategy="fedadam", strategy_args=args)).close()
    assert told(tmp_path, "r-1")[2] == "  updates become a model by fedadam, lr=0.2, tau=0.01"
    [shown] = [json.loads(invoke(tmp_path, "round", "show", "r-1", "--json").output)["start"]]
    assert (shown["strategy"], shown["strategy_args"]) == ("fedadam", args)


def test_a_round_that_ended_at_its_deadline(tmp_path: Path) -> None:
    record = Record(tmp_path, start("r-1"))
    record.update("a", 0.5)
    record.task("b", LaunchState.SENT)
    record.end(Outcome.TIMEOUT)
    record.close()
    assert told(tmp_path, "r-1")[3:] == [
        "  +    60.500 s  ended at its deadline: 1 update, 10 samples → fl/models/global_model_v1",
        "                mean over samples: loss 0.5",
        "  without 2 of 3 participants:",
        "    b: its task went out, and nothing came back",
        "    c: no task went out: it was not there",
    ]


def test_a_round_that_failed(tmp_path: Path) -> None:
    record = Record(tmp_path, start("r-1"))
    record.end(Outcome.FAILED, "0 of at least 1 updates at the deadline")
    record.close()
    end = told(tmp_path, "r-1")[2]
    assert "failed: 0 of at least 1 updates at the deadline" in end
    assert "the model is still fl/models/global_model_v0" in end


@pytest.mark.parametrize(
    ("begin_s", "says"), [(9e9, " s left"), (BEGIN_S, "and the coordinator has not ended it")]
)
def test_a_round_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin_s: float, says: str
) -> None:
    monkeypatch.setattr(f"{__name__}.BEGIN_S", begin_s)
    record = Record(tmp_path, start("r-1"))
    record.update("a", 0.5)
    record.close()
    line = told(tmp_path, "r-1")[3]
    assert line.startswith("  open: 1 of 2 updates")
    assert says in line


def test_what_others_wrote_is_only_text(tmp_path: Path) -> None:
    record = Record(tmp_path, start("r-1", task_wasm_image=f"oci://{FORGED}"))
    record.refusal("a", 0.5, "undecodable", FORGED)
    record.task("a", LaunchState.FAILED, FORGED)
    record.end(Outcome.FAILED, FORGED)
    record.close()
    lines = told(tmp_path, "r-1")
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("2023") for line in lines) == 1


def test_without_the_managers_store(tmp_path: Path) -> None:
    record = Record(tmp_path, start("r-1"))
    record.close()
    (tmp_path / "manager" / "launches.db").unlink()
    assert told(tmp_path, "r-1")[-1] == "    c: no accepted update"


def test_as_json(tmp_path: Path) -> None:
    record = Record(tmp_path, start("r-1"))
    record.update("a", 0.5)
    record.task("b", LaunchState.FAILED, "it trapped")
    record.end(Outcome.TIMEOUT)
    record.close()
    found = json.loads(invoke(tmp_path, "round", "show", "r-1", "--json").output)
    assert found["complete"]["status"] == "timeout"
    assert found["story"] == [
        {
            "at": "2023-11-14T22:13:20.500Z",
            "event": "accepted",
            "proplet_id": "a",
            "detail": "10 samples",
        }
    ]
    assert found["tasks"] == {"b": {"state": "failed", "error": "it trapped"}}


def test_a_round_that_is_not_there(tmp_path: Path) -> None:
    Record(tmp_path, start("r-1")).close()
    result = invoke(tmp_path, "round", "show", "r-2")
    assert result.exit_code == 1
    assert "there is no round r-2 here" in result.output
    assert "`propeller-fl round watch r-2` says why" in result.output
    result = invoke(tmp_path / "elsewhere", "round", "show", "r-1")
    assert result.exit_code == 1
    assert "name its directory with --data-dir" in result.output


def test_the_store_is_only_read(tmp_path: Path) -> None:
    Record(tmp_path, start("r-1")).close()
    databases = sorted(tmp_path.glob("*/*.db"))
    before = [path.read_bytes() for path in databases]
    assert len(before) == 2
    told(tmp_path, "r-1")
    invoke(tmp_path, "round", "list")
    assert [path.read_bytes() for path in databases] == before
