"""What the page shows, from messages alone: no socket, no clock."""

from __future__ import annotations

import json
from typing import Any

from propeller_fl.dashboard import View
from propeller_fl.wire import (
    AckStatus,
    Alive,
    Discovery,
    ExperimentPhase,
    ExperimentStatus,
    LaunchReport,
    Liveness,
    Mode,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskResult,
    Topics,
    UpdateAck,
)

PREFIX = "m/tenant/c/channel"
TOPICS = Topics(PREFIX)


def start(round_id: str = "r-1", mode: Mode = Mode.TRAIN, participants: int = 3) -> RoundStart:
    ids = tuple(f"p-{number}" for number in range(1, participants + 1))
    uri = "fl/models/global_model_v0"
    return RoundStart(round_id, uri, "builtin:linear", ids, {"lr": 0.1}, 2, 30.0, mode=mode)


def status(of: RoundStart, phase: Phase = Phase.OPEN, deadline_s: float = 130.0) -> bytes:
    count = len(of.participants)
    return RoundStatus(
        of.round_id, phase, of.digest(), of.k_of_n, count, deadline_at_s=deadline_s
    ).encode()


def complete(of: str, version: int, at: str = "1970-01-01T00:02:00+00:00") -> bytes:
    uri = f"fl/models/global_model_v{version}"
    return RoundComplete(
        of, Outcome.COMPLETE, version, uri, 2, 20, at, metrics={"zeta": 1.0, "loss": 0.5}
    ).encode()


def opened(view: View, of: RoundStart) -> None:
    view.heard(TOPICS.round_start, of.encode(), 100.0)
    view.heard(TOPICS.status(of.round_id), status(of), 100.5)


def answer(view: View, proplet: str, reason: str = "", round_id: str = "r-1") -> None:
    kind = AckStatus.REFUSED if reason else AckStatus.ACCEPTED
    ack = UpdateAck(round_id, proplet, kind, f"{len(proplet + reason):064x}", reason, "so it is")
    view.heard(TOPICS.ack(round_id, proplet), ack.encode(), 102.0)


def seats(view: View, round_id: str = "r-1") -> dict[str, str]:
    found = view.round(round_id)
    assert found is not None
    return {seat["id"]: seat["state"] for seat in found["seats"]}


def events(view: View, round_id: str = "r-1") -> list[tuple[str, str]]:
    found = view.round(round_id)
    assert found is not None
    return [(line["event"], line["proplet_id"]) for line in found["story"]]


def test_a_round_from_its_start_to_its_end() -> None:
    view = View(TOPICS)
    opened(view, start())
    report = LaunchReport("r-1", ("p-1", "p-2"), ("p-3",))
    view.heard(TOPICS.launch("r-1"), report.encode(), 101.0)
    assert seats(view) == {"p-1": "launched", "p-2": "launched", "p-3": "absent"}
    answer(view, "p-1")
    answer(view, "p-2", "not_finite")
    answer(view, "p-2", "not_finite")  # said again
    answer(view, "p-2")
    view.heard(TOPICS.complete("r-1"), complete("r-1", 1), 120.0)
    assert seats(view) == {"p-1": "accepted", "p-2": "accepted", "p-3": "absent"}
    assert events(view) == [
        ("asked for", ""), ("opened", ""), ("launched", ""), ("absent", "p-3"),
        ("accepted", "p-1"), ("refused", "p-2"), ("accepted", "p-2"), ("complete", ""),
    ]  # fmt: skip
    whole = view.round("r-1")
    assert whole is not None
    assert whole["story"][5]["detail"] == "not_finite: so it is"
    assert whole["outcome"] == "complete"
    assert whole["model_version"] == 1
    assert whole["opened_at_s"] == 100.0
    assert list(whole["metrics"]) == ["loss", "zeta"]


def test_the_order_in_which_retained_messages_come_is_all_the_same() -> None:
    of = start()
    report = LaunchReport("r-1", ("p-1", "p-2"))
    messages = [
        (TOPICS.status("r-1"), status(of, Phase.COMPLETE)),
        (TOPICS.launch("r-1"), report.encode()),
        (TOPICS.complete("r-1"), complete("r-1", 1)),
    ]
    views = [View(TOPICS), View(TOPICS)]
    for view, ordered in zip(views, (messages, messages[::-1]), strict=True):
        for topic, payload in ordered * 2:
            view.heard(topic, payload, 500.0)
    first, second = (view.snapshot(500.0) for view in views)
    assert first == second
    assert first["points"][0]["metrics"] == {"loss": 0.5, "zeta": 1.0}


def test_an_evaluation_is_a_point_of_its_own() -> None:
    view = View(TOPICS)
    view.heard(TOPICS.complete("r-0"), complete("r-0", 4), 90.0)
    opened(view, start(mode=Mode.EVALUATE))
    view.heard(TOPICS.complete("r-1"), complete("r-1", 4), 110.0)
    points = view.snapshot(111.0)["points"]
    assert [(p["round_id"], p["evaluated"]) for p in points] == [("r-0", False), ("r-1", True)]


def test_a_refused_start_has_its_verdict_and_leaves_the_round_that_has_the_id_alone() -> None:
    view = View(TOPICS)
    opened(view, start())
    other = start(participants=2)
    view.heard(TOPICS.round_start, other.encode(), 103.0)
    assert view.verdict(other.digest()) is None
    refused = RoundStatus("r-1", Phase.REFUSED, other.digest(), reason="round_id_used", detail="no")
    view.heard(TOPICS.status("r-1"), refused.encode(), 103.0)
    verdict = view.verdict(other.digest())
    assert verdict is not None
    assert verdict.reason == "round_id_used"
    first = view.verdict(start().digest())
    assert first is not None
    assert first.phase is Phase.OPEN
    found = view.round("r-1")
    assert found is not None
    assert found["phase"] == "open"
    assert found["participants"] == 3
    assert events(view)[-1] == ("another start refused", "")


def test_answers_that_come_before_their_round_are_kept_and_make_no_round() -> None:
    view = View(TOPICS)
    answer(view, "p-1")
    assert view.snapshot(100.0)["rounds"] == []
    opened(view, start())
    assert seats(view)["p-1"] == "accepted"


def test_who_is_alive_and_at_work() -> None:
    view = View(TOPICS, liveness_timeout_s=30.0)
    facts = {"wasm_runtime": "WAMR", "version": "1.2", "memory_bytes": "65536"}
    created = Discovery("p-1", "lab", facts).encode()
    view.heard(TOPICS.proplet_create_of("p-1"), created, 100.0)
    view.heard(TOPICS.proplet_alive, Alive("p-2").encode(), 100.0)
    opened(view, start())
    report = LaunchReport("r-1", ("p-1", "p-2")).encode()
    view.heard(TOPICS.launch("r-1"), report, 101.0)

    def proplet(number: int) -> dict[str, Any]:
        found: dict[str, Any] = view.snapshot(0.0)["proplets"][number]
        return found

    assert proplet(0)["runtime"] == "WAMR"
    assert proplet(0)["memory_bytes"] == 65536
    assert proplet(0)["tasks"] == ["r-1.p-1"]
    failed = TaskResult("r-1.p-1", "p-1", error="out of memory").encode()
    view.heard(TOPICS.proplet_results_of("p-1"), failed, 105.0)
    assert (proplet(0)["tasks"], proplet(0)["failed"]) == ([], 1)
    assert seats(view)["p-1"] == "failed"
    view.heard(TOPICS.proplet_alive, Alive("p-2", Liveness.OFFLINE).encode(), 106.0)
    assert (proplet(1)["alive"], proplet(1)["offline"]) == (False, True)
    view.ticked(129.0)
    assert proplet(0)["alive"]
    view.ticked(131.0)
    assert not proplet(0)["alive"]


def test_nobody_speaks_for_another() -> None:
    view = View(TOPICS)
    view.heard(TOPICS.proplet_alive_of("p-1"), Alive("p-2").encode(), 100.0)
    view.heard(TOPICS.status("r-2"), status(start("r-1")), 100.0)
    opened(view, start())
    failed = TaskResult("r-1.p-1", "p-9", error="no").encode()
    view.heard(TOPICS.proplet_results, failed, 101.0)
    assert view.snapshot(100.0)["proplets"] == []
    assert view.ignored == 2
    assert seats(view) == {"p-1": "waiting", "p-2": "waiting", "p-3": "waiting"}


def test_changes_are_what_is_new_and_lead_to_the_snapshot() -> None:
    view = View(TOPICS)
    opened(view, start())
    for version in (0, 1):
        payload = json.dumps({"w": [1, 2], "version": version}).encode()
        view.heard(TOPICS.model(version), payload, 100.0)
    view.heard(TOPICS.proplet_alive, Alive("p-1").encode(), 100.0)
    changes = view.take_changes(101.0)
    snapshot = view.snapshot(101.0)
    assert {key: changes[key] for key in ("rounds", "models", "proplets")} == {
        key: snapshot[key] for key in ("rounds", "models", "proplets")
    }
    assert [model["parameters"] for model in snapshot["models"]] == [2, 2]
    assert view.take_changes(102.0) == {}
    view.heard(TOPICS.proplet_alive, Alive("p-1").encode(), 103.0)
    assert view.take_changes(103.0) == {"heard": {"p-1": 103.0}, "now_s": 103.0}
    view.heard(TOPICS.model(0), b"", 104.0)
    assert view.take_changes(104.0)["models_gone"] == [0]


def experiment(name: str, rounds: int = 0, **more: Any) -> bytes:
    phase = more.pop("phase", ExperimentPhase.RUNNING)
    return ExperimentStatus(name, phase, "0" * 64, rounds, 20, **more).encode()


def test_how_experiments_stand() -> None:
    view = View(TOPICS)
    topic = TOPICS.experiment_status("x-1")
    view.heard(topic, experiment("x-1", 3, round_id="x-1-r4", metrics={"loss": 0.5}), 100.0)
    [one] = view.take_changes(100.0)["experiments"]
    assert (one["id"], one["phase"], one["rounds"], one["of_rounds"]) == ("x-1", "running", 3, 20)
    assert (one["round_id"], one["metrics"], one["ended"]) == ("x-1-r4", {"loss": 0.5}, False)

    view.heard(topic, experiment("x-1", 3, round_id="x-1-r4", metrics={"loss": 0.5}), 101.0)
    assert view.take_changes(101.0) == {}  # nothing new
    ended = experiment(
        "x-1", 20, phase=ExperimentPhase.COMPLETE, reason="rounds", detail="20 rounds have trained"
    )
    view.heard(topic, ended, 102.0)
    [one] = view.take_changes(102.0)["experiments"]
    assert (one["phase"], one["ended"], one["why"]) == ("complete", True, "20 rounds have trained")
    assert view.snapshot(102.0)["experiments"] == [one]

    view.heard(TOPICS.experiment_status("x-2"), experiment("x-1"), 103.0)
    assert view.ignored == 1  # it names another than its topic
    view.heard(topic, b"", 104.0)
    assert view.take_changes(104.0)["experiments_gone"] == ["x-1"]
    assert view.snapshot(104.0)["experiments"] == []


def test_memory_is_bounded_whatever_is_said() -> None:
    view = View(TOPICS, keep_rounds=5, keep_models=5, keep_proplets=5, keep_experiments=5)
    opened(view, start("r-open"))
    for number in range(50):
        round_id = f"r-{number}"
        at = f"1970-01-01T00:{number:02}:00+00:00"
        view.heard(TOPICS.complete(round_id), complete(round_id, number, at), 5000.0)
        view.heard(TOPICS.model(number), b'{"w": [1]}', 5000.0)
        name = f"x-{number}"
        view.heard(TOPICS.experiment_status(name), experiment(name, detail="d" * 900), 5000.0)
        named = Discovery(f"p-{number}", "n" * 900, {"runtime": "x" * 900}).encode()
        view.heard(TOPICS.proplet_create, named, 5000.0 + number)
        for other in range(50):
            answer(view, f"q-{other}", "duplicate", f"r-none-{number}")
    snapshot = view.snapshot(5000.0)
    assert [r["id"] for r in snapshot["rounds"]] == ["r-open", "r-46", "r-47", "r-48", "r-49"]
    assert [model["version"] for model in snapshot["models"]] == [45, 46, 47, 48, 49]
    assert [one["id"] for one in snapshot["proplets"]] == [f"p-{n}" for n in range(45, 50)]
    assert [point["version"] for point in snapshot["points"]] == [45, 46, 47, 48, 49]
    assert [one["id"] for one in snapshot["experiments"]] == [f"x-{n}" for n in range(45, 50)]
    assert len(json.dumps(snapshot)) < 20_000
    changes = view.take_changes(5000.0)
    assert len(changes["rounds_gone"]) == 46
    assert len(changes["experiments_gone"]) == 45


def test_what_cannot_be_read_is_counted() -> None:
    view = View(TOPICS)
    for topic in (TOPICS.round_start, TOPICS.status("r-1"), TOPICS.proplet_alive):
        view.heard(topic, b"\xff", 100.0)
    view.heard("fl/rounds/start", b"{}", 100.0)  # under no prefix: not ours
    assert view.ignored == 3
    assert view.take_changes(100.0) == {}
