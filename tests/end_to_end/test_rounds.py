"""Rounds through the whole system: real broker, real services, real proplets, real Wasm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from propeller_fl.wire import UpdateFormat
from tests.end_to_end import modules
from tests.end_to_end.conftest import Fleet

LEARNED = {"w": [2.403, 1.027, 0.849], "b": -0.563}  # by three proplets in one round
ALONE = {"participants": ["proplet-1"], "k_of_n": 1}


def test_three_real_updates_make_the_next_model(fleet: Fleet) -> None:
    fleet.peer.subscribe("fl/models/+")
    fleet.start("r-1", "builtin:linear")
    complete = fleet.completion("r-1")
    assert complete["status"] == "complete"
    assert (complete["num_updates"], complete["refused"], complete["missing"]) == (3, {}, [])
    model = fleet.peer.wait_for("fl/models/global_model_v1")
    assert model["version"] == 1
    assert any(model["w"]), "it has learned something"
    stored = (fleet.models_dir / "global_model_v1.json").read_bytes()
    assert stored in fleet.peer.heard("fl/models/global_model_v1")


@pytest.mark.parametrize("update_format", UpdateFormat)
def test_every_update_format_learns_the_same(update_format: str, fleet: Fleet) -> None:
    fleet.peer.subscribe("fl/models/+")
    hyperparams = {"epochs": 5, "lr": 0.5, "batch_size": 16}
    fleet.start("r-f", "builtin:linear", update_format=update_format, hyperparams=hyperparams)
    complete = fleet.completion("r-f")
    assert (complete["status"], complete["num_updates"], complete["refused"]) == ("complete", 3, {})
    model = fleet.peer.wait_for("fl/models/global_model_v1")
    assert model["w"] == pytest.approx(LEARNED["w"], abs=0.1)
    assert model["b"] == pytest.approx(LEARNED["b"], abs=0.1)
    compact = update_format in (UpdateFormat.FLOAT16, UpdateFormat.INT8_DELTA)
    assert (complete["update_bytes"] < 3 * 105) == compact


def test_k_reached_before_n(fleet: Fleet) -> None:
    names = ["proplet-1", "proplet-2", "proplet-3", "proplet-9"]
    fleet.start("r-k", "builtin:linear", participants=names, k_of_n=2)
    complete = fleet.completion("r-k")
    assert complete["status"] == "complete"
    assert complete["num_updates"] == 2
    assert "proplet-9" in complete["missing"]
    launch = fleet.peer.wait_for("fl/rounds/r-k/launch")
    assert launch["absent"] == ["proplet-9"], "reported, not silently skipped"


def test_the_deadline_with_some(fleet: Fleet) -> None:
    fleet.start(
        "r-some", "builtin:linear", participants=["proplet-1", "proplet-9"], k_of_n=2, timeout_s=4
    )
    complete = fleet.completion("r-some")
    assert (complete["status"], complete["num_updates"]) == ("timeout", 1)
    assert complete["model_topic"] == "fl/models/global_model_v1"


def test_the_deadline_with_none(fleet: Fleet) -> None:
    fleet.start(
        "r-none", "builtin:linear", participants=["proplet-8", "proplet-9"], k_of_n=1, timeout_s=1
    )
    complete = fleet.completion("r-none")
    assert (complete["status"], complete["num_updates"]) == ("failed", 0)
    assert complete["model_topic"] == "fl/models/global_model_v0"
    assert "at the deadline" in complete["detail"]


def test_a_duplicate_is_answered_and_counts_once(fleet: Fleet, tmp_path: Path) -> None:
    update = modules.update("r-dup")
    fleet.start(
        "r-dup",
        modules.prints(tmp_path, update),
        participants=["proplet-1", "proplet-9"],
        k_of_n=2,
        timeout_s=4,
    )
    acks = "fl/rounds/r-dup/acks/proplet-1"
    fleet.peer.wait_for(acks, lambda ack: ack["status"] == "accepted")
    fleet.peer.publish(
        "fl/rounds/r-dup/updates/proplet-1", json.dumps(update | {"num_samples": 99}).encode()
    )
    assert fleet.peer.wait_for(acks, lambda ack: ack["reason"])["reason"] == "duplicate"
    complete = fleet.completion("r-dup")
    assert (complete["num_updates"], complete["total_samples"]) == (1, 10)


def test_an_update_of_one_who_does_not_take_part_is_refused(fleet: Fleet) -> None:
    fleet.start(
        "r-out", "builtin:linear", participants=["proplet-1", "proplet-9"], k_of_n=2, timeout_s=4
    )
    fleet.peer.wait_for("fl/rounds/r-out/status", lambda status: status["phase"] == "open")
    fleet.peer.publish(
        "fl/rounds/r-out/updates/stranger", modules.update("r-out", proplet_id="stranger")
    )
    ack = fleet.peer.wait_for("fl/rounds/r-out/acks/stranger")
    assert (ack["status"], ack["reason"]) == ("refused", "not_participant")
    assert fleet.completion("r-out")["refused"] == {"not_participant": 1}


def test_an_update_that_names_another_proplet_than_its_topic_is_refused(fleet: Fleet) -> None:
    fleet.start(
        "r-id", "builtin:linear", participants=["proplet-1", "proplet-9"], k_of_n=2, timeout_s=3
    )
    fleet.peer.wait_for("fl/rounds/r-id/status", lambda status: status["phase"] == "open")
    fleet.peer.publish(
        "fl/rounds/r-id/updates/proplet-9", modules.update("r-id", num_samples=10**6)
    )
    ack = fleet.peer.wait_for("fl/rounds/r-id/acks/proplet-9")
    assert (ack["status"], ack["reason"]) == ("refused", "identity")
    assert fleet.completion("r-id")["missing"] == ["proplet-9"]


@pytest.mark.parametrize(
    ("reason", "update"),
    [
        ("wrong_shape", {"w": [1.0, 2.0], "b": 4.0}),
        ("not_finite", {"w": [1.0, 2.0, float("nan")], "b": 4.0}),
    ],
)
def test_a_module_that_prints_a_bad_update_is_refused(
    fleet: Fleet, tmp_path: Path, reason: str, update: dict[str, Any]
) -> None:
    image = modules.prints(tmp_path, modules.update("r-bad", update=update))
    fleet.peer.subscribe("control/proplet/results")
    fleet.start("r-bad", image, timeout_s=4, **ALONE)
    ack = fleet.peer.wait_for("fl/rounds/r-bad/acks/proplet-1")
    assert (ack["status"], ack["reason"]) == ("refused", reason)
    assert reason in fleet.peer.wait_for("control/proplet/results")["error"]
    complete = fleet.completion("r-bad")
    assert (complete["status"], complete["refused"]) == ("failed", {reason: 1})


@pytest.mark.parametrize(
    ("wat", "says"),
    [(modules.LOOP, "2 s"), (modules.TRAP, "unreachable"), (modules.BAD_IMPORT, "clock_time_get")],
    ids=["loops for ever", "traps", "imports what it may not"],
)
def test_a_module_that_fails_is_reported_and_its_proplet_goes_on(
    fleet: Fleet, tmp_path: Path, wat: str, says: str
) -> None:
    fleet.peer.subscribe("control/proplet/results")
    fleet.start("r-fail", modules.save(tmp_path, wat), timeout_s=6, **ALONE)
    assert says in fleet.peer.wait_for("control/proplet/results")["error"]
    launch = fleet.peer.wait_for("fl/rounds/r-fail/launch", lambda report: report["failed"])
    assert says in launch["failed"]["proplet-1"]
    assert fleet.completion("r-fail")["status"] == "failed"
    fleet.start("r-next", "builtin:linear", **ALONE)
    assert fleet.completion("r-next")["status"] == "complete"


def test_a_round_whose_tasks_have_all_failed_does_not_wait(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start("r-trap", modules.save(tmp_path, modules.TRAP), timeout_s=86_400)
    complete = fleet.completion("r-trap")
    assert (complete["status"], complete["model_version"]) == ("failed", 0)
    assert "3 of 3 tasks have failed" in complete["detail"]
    assert "unreachable" in complete["detail"]


def test_a_round_does_not_wait_for_those_whose_tasks_have_failed(
    fleet: Fleet, tmp_path: Path
) -> None:
    image = modules.prints(tmp_path, modules.update("r-one"))  # which only proplet-1 may say
    fleet.start("r-one", image, timeout_s=86_400)
    complete = fleet.completion("r-one")
    assert (complete["status"], complete["num_updates"]) == ("timeout", 1)
    assert complete["missing"] == ["proplet-2", "proplet-3"]
    assert "2 of 3 tasks have failed" in complete["detail"]
    assert complete["model_topic"] == "fl/models/global_model_v1"


def test_a_round_on_a_missing_model_is_refused_before_anything_is_launched(fleet: Fleet) -> None:
    fleet.peer.subscribe("control/manager/start/+")
    fleet.start("r-lost", "builtin:linear", model_uri="fl/models/global_model_v99")
    status = fleet.peer.wait_for("fl/rounds/r-lost/status")
    assert (status["phase"], status["reason"]) == ("refused", "unknown_model")
    fleet.start("r-next", "builtin:linear")
    fleet.completion("r-next")
    launched = [
        json.loads(p) for n in "123" for p in fleet.peer.heard(f"control/manager/start/proplet-{n}")
    ]
    assert {task["env"]["ROUND_ID"] for task in launched} == {"r-next"}


def test_bad_json_harms_nobody(fleet: Fleet) -> None:
    for topic in (
        "fl/rounds/start",
        "fl/rounds/r-1/updates/proplet-1",
        "fl/rounds/r-1/complete",
        "fml/updates",
        "fl/models/publish",
        "control/proplet/create",
        "control/proplet/alive",
        "control/proplet/results",
        "control/manager/start",
    ):
        for junk in (b"{", b"\xff\xfe", b"[" * 50_000, b"null", b""):
            fleet.peer.publish(topic, junk)
    fleet.start("r-1", "builtin:linear")
    assert fleet.completion("r-1")["status"] == "complete"


def test_an_image_that_cannot_be_had_is_reported(fleet: Fleet) -> None:
    fleet.start("r-img", "oci://nowhere.example/x:1", timeout_s=2)
    assert "oci://nowhere.example/x:1" in fleet.peer.wait_for("fl/rounds/r-img/launch")["error"]
    assert fleet.completion("r-img")["status"] == "failed"
