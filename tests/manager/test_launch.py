"""From fl/rounds/start to tasks, on a real broker."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from dataclasses import replace

import pytest

from propeller_fl.errors import DamagedStoreError
from propeller_fl.wire import (
    FlSpec,
    Liveness,
    Outcome,
    Phase,
    RoundComplete,
    TaskResult,
    TaskStart,
    TaskStop,
    image_uri,
)

from ..support.wait import wait_until
from .conftest import DEADLINE_S, MODEL_SHA256, TOPICS, WASM, Stage, round_start

UPDATE_OF_ANYBODY = TOPICS.update("r-1", "p-1")
SHA256 = hashlib.sha256(WASM).hexdigest()


def test_one_task_for_each_participant(any_stage: Stage) -> None:
    stage = any_stage
    stage.start_manager()
    stage.create("p-1")
    stage.create("p-2")
    stage.create("bystander")
    stage.open_round(round_start(participants=("p-1", "p-2")))

    tasks = {task.proplet_id: task for task in stage.tasks(2)}
    assert set(tasks) == {"p-1", "p-2"}
    assert tasks["p-1"] == TaskStart(
        id="r-1.p-1",
        name="r-1",
        proplet_id="p-1",
        image_url=image_uri(SHA256),
        image_sha256=SHA256,
        env={
            "ROUND_ID": "r-1",
            "PROPLET_ID": "p-1",
            "MODEL_URI": "fl/models/global_model_v0",
            "HYPERPARAMS": '{"epochs":1,"lr":0.5}',
            "FL_MODE": "train",
            "FL_UPDATE_FORMAT": "json",
        },
        fl=FlSpec(
            round_id="r-1",
            model_uri="fl/models/global_model_v0",
            model_sha256=MODEL_SHA256,
            format="json",
            deadline=DEADLINE_S,
            hyperparams={"epochs": 1, "lr": 0.5},
            strategy="fedavg",
        ),
    )
    stage.report("r-1", launched=("p-1", "p-2"), absent=(), error="")


def test_the_image_is_on_the_broker_before_any_task(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    stage.tasks(1)
    topics = [incoming.topic for incoming in stage.peer.received]
    assert topics.index(TOPICS.image(SHA256)) < topics.index(TOPICS.task_start)
    assert stage.peer.heard(TOPICS.image(SHA256)) == [WASM]


def test_a_proplet_with_a_start_topic_of_its_own(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1", own_start_topic="true")
    start = round_start()
    stage.open_round(start)
    stage.tasks(1, TOPICS.task_start_of("p-1"))
    assert not stage.peer.heard(TOPICS.task_start)

    stage.report("r-1", launched=("p-1",))
    stage.status(start, Phase.COMPLETE)
    stage.peer.expect(TOPICS.task_stop_of("p-1"))
    assert not stage.peer.heard(TOPICS.task_stop)


def test_nothing_before_the_coordinator_opens_it(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    start = round_start()
    stage.peer.say(TOPICS.round_start, start.encode())
    stage.settle()
    assert not stage.tasks_so_far()
    stage.status(start, Phase.OPEN)
    stage.tasks(1)


def test_the_coordinator_may_be_the_first_to_know(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    start = round_start()
    stage.status(start, Phase.OPEN)
    stage.peer.say(TOPICS.round_start, start.encode())
    stage.tasks(1)


def test_nothing_for_a_refused_round(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    start = round_start()
    stage.peer.say(TOPICS.round_start, start.encode())
    stage.status(start, Phase.REFUSED)
    stage.settle()
    assert not stage.tasks_so_far()

    mended = round_start(hyperparams={"epochs": 2})
    stage.open_round(mended)
    assert stage.tasks(1)[0].env["HYPERPARAMS"] == '{"epochs":2}'


def test_the_coordinator_chooses_among_starts_of_one_id(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_manager()
    stage.create("p-1")
    first, second = round_start(), round_start(hyperparams={"epochs": 2})
    stage.peer.say(TOPICS.round_start, first.encode())
    stage.peer.say(TOPICS.round_start, second.encode())
    stage.status(second, Phase.OPEN)
    assert [task.env["HYPERPARAMS"] for task in stage.tasks(1)] == ['{"epochs":2}']
    assert "round start refused: another one has this id" in caplog.messages


def test_a_bad_start_is_refused(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.start_manager()
    for bad in (b"{", b'{"round_id": "a/b"}', b"\xff"):
        stage.peer.say(TOPICS.round_start, bad)
    refused = f"message on {TOPICS.round_start} refused: "
    wait_until(lambda: caplog.text.count(refused) == 3, 10, "three refusals are logged")
    assert f"{refused}participants is missing" in caplog.text


def test_the_same_start_again_does_nothing(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    start = round_start()
    stage.open_round(start)
    stage.tasks(1)
    stage.open_round(start)
    stage.settle()
    stage.status(start, Phase.COMPLETE)
    stage.until_closed("r-1")
    stage.open_round(start)
    stage.settle()
    assert len(stage.tasks_so_far()) == 1


def test_another_start_under_a_used_id(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.start_manager()
    stage.create("p-1")
    start, other = round_start(), round_start(hyperparams={"epochs": 2})
    stage.open_round(start)
    stage.tasks(1)
    refused = "round start refused: another one has this id"
    stage.peer.say(TOPICS.round_start, other.encode())
    wait_until(lambda: caplog.messages.count(refused) == 1, 10, "it is refused")
    stage.status(start, Phase.COMPLETE)
    stage.until_closed("r-1")
    stage.peer.say(TOPICS.round_start, other.encode())
    wait_until(lambda: caplog.messages.count(refused) == 2, 10, "it is refused again")
    assert len(stage.tasks_so_far()) == 1


def test_absent_participants_are_reported_and_served_later(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_manager()
    stage.create("here")
    stage.create("left")
    stage.alive("left", Liveness.OFFLINE)
    stage.create("silent")
    stage.now_s += 31.0
    stage.alive("here")
    stage.open_round(round_start(participants=("here", "left", "silent", "stranger")))

    report = stage.report("r-1", launched=("here",))
    assert report.absent == ("left", "silent", "stranger")
    warning = "3 participants are not alive, their tasks wait"
    [record] = [record for record in caplog.records if record.getMessage() == warning]
    assert record.__dict__["proplet_ids"] == "left,silent,stranger"

    stage.alive("left")
    stage.alive("silent")
    stage.create("stranger")
    tasks = stage.tasks(4)
    assert sorted(task.proplet_id for task in tasks) == ["here", "left", "silent", "stranger"]
    stage.report("r-1", absent=(), launched=("here", "left", "silent", "stranger"))


def test_no_task_for_who_comes_back_too_late(stage: Stage) -> None:
    stage.start_manager()
    start = round_start()
    stage.open_round(start)
    stage.report("r-1", absent=("p-1",))
    stage.status(start, Phase.FAILED)
    stage.until_closed("r-1")
    stage.create("p-1")
    stage.settle()
    assert not stage.tasks_so_far()


def test_a_restarted_proplet_gets_its_unfinished_task_again(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.create("p-2")
    stage.open_round(round_start(participants=("p-1", "p-2")))
    stage.tasks(2)
    result = TaskResult("r-1.p-2", "p-2", results="done")
    stage.peer.say(TOPICS.proplet_results, result.encode())
    stage.until_saved("r-1", p_1="sent", p_2="done")
    stage.create("p-1")
    stage.create("p-2")
    tasks = stage.tasks(3)
    stage.settle()
    assert tasks[2].proplet_id == "p-1"
    assert len(stage.tasks_so_far()) == 3


def test_a_heartbeat_without_a_result_repeats_the_task_to_those_who_ignore_what_they_know(
    stage: Stage,
) -> None:
    stage.start_manager()
    stage.create("p-1", own_start_topic="true")
    stage.open_round(round_start())
    own = TOPICS.task_start_of("p-1")
    [task] = stage.tasks(1, own)
    stage.until_saved("r-1", **{"p-1": "sent"})
    stage.alive("p-1")
    assert stage.tasks(2, own) == [task, task]
    stage.peer.say(TOPICS.proplet_results, TaskResult(task.id, "p-1", results="{}").encode())
    stage.until_saved("r-1", **{"p-1": "done"})
    stage.alive("p-1")
    stage.settle()
    assert len(stage.tasks(2, own)) == 2


def test_a_heartbeat_sends_nothing_again(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    stage.tasks(1)
    stage.alive("p-1")
    stage.settle()
    assert len(stage.tasks_so_far()) == 1


def test_failures_are_reported(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    stage.tasks(1)
    result = TaskResult("r-1.p-1", "p-1", error="module trapped: unreachable")
    stage.peer.say(TOPICS.proplet_results, result.encode())
    stage.report("r-1", failed={"p-1": "module trapped: unreachable"})


def test_ids_with_dots_are_not_confused(stage: Stage) -> None:
    stage.start_manager()
    stage.create("b.c")
    stage.create("c")
    stage.open_round(round_start("a", ("b.c",)))
    stage.open_round(round_start("a.b", ("c",)))
    tasks = stage.tasks(2)
    assert {task.id for task in tasks} == {"a.b.c"}
    stage.peer.say(TOPICS.proplet_results, TaskResult("a.b.c", "c", error="oops").encode())
    stage.report("a.b", failed={"c": "oops"})
    stage.peer.say(TOPICS.proplet_results, TaskResult("a.b.c", "b.c", error="ouch").encode())
    stage.report("a", failed={"b.c": "ouch"})


@pytest.mark.parametrize("how", ["status", "complete"])
def test_the_end_of_a_round_stops_what_is_unfinished(stage: Stage, how: str) -> None:
    stage.start_manager()
    stage.create("slow")
    stage.create("quick")
    start = round_start(participants=("slow", "quick", "absent"))
    stage.open_round(start)
    stage.tasks(2)
    stage.peer.say(TOPICS.proplet_results, TaskResult("r-1.quick", "quick", results="ok").encode())
    stage.until_saved("r-1", slow="sent", quick="done")
    if how == "status":
        stage.status(start, Phase.COMPLETE)
    else:
        complete = RoundComplete(
            "r-1", Outcome.COMPLETE, 1, "fl/models/global_model_v1", 1, 10, "2026-01-01T00:00:00Z"
        )
        stage.peer.say(TOPICS.complete("r-1"), complete.encode(), retain=True)
    [stop] = stage.peer.expect(TOPICS.task_stop)
    assert TaskStop.decode(stop) == TaskStop("r-1.slow", "slow")
    stage.until_closed("r-1")


@pytest.mark.parametrize(
    ("image", "sha256", "error"),
    [
        ("/nowhere/client.wasm", "", "No such file"),
        ("oci://example/unknown:1", "", "nothing here can fetch"),
        ("oci://example/client:latest", "0" * 64, "the round asks for"),
    ],
)
def test_an_image_that_cannot_be_had(stage: Stage, image: str, sha256: str, error: str) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start(image=image, image_sha256=sha256))
    [report] = stage.peer.expect(TOPICS.launch("r-1"))
    assert error in report.decode()
    assert not stage.tasks_so_far()


def test_an_image_that_comes_later_is_launched_then(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    away = stage.image.rename(stage.directory / "away")
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    stage.peer.expect_like(TOPICS.launch("r-1"), lambda payload: b"No such file" in payload)
    away.rename(stage.image)
    stage.tasks(1)
    stage.report("r-1", launched=("p-1",), error="")
    assert caplog.text.count("nothing is launched") == 1


def test_an_image_too_large_for_the_broker(stage: Stage) -> None:
    stage.image.write_bytes(WASM + bytes(9 * 1024 * 1024))
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    [report] = stage.peer.expect(TOPICS.launch("r-1"))
    assert "over the limit" in report.decode()


def test_the_digest_that_was_asked_for(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start(image_sha256=SHA256))
    assert stage.tasks(1)[0].image_sha256 == SHA256


def test_the_log_names_round_and_proplet(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    stage.tasks(1)
    stage.peer.say(TOPICS.proplet_results, TaskResult("r-1.p-1", "p-1", error="no data").encode())
    stage.report("r-1", failed={"p-1": "no data"})
    [record] = [r for r in caplog.records if r.getMessage() == "task failed: no data"]
    assert (record.__dict__["round_id"], record.__dict__["proplet_id"]) == ("r-1", "p-1")


def test_garbage_on_every_topic(stage: Stage) -> None:
    stage.start_manager()
    for topic in (
        TOPICS.round_start,
        TOPICS.status("r-1"),
        TOPICS.complete("r-1"),
        TOPICS.proplet_create,
        TOPICS.proplet_alive,
        TOPICS.proplet_results,
        UPDATE_OF_ANYBODY,
    ):
        for payload in (b"", b"null", b"\xbf\xff", b"{", b'{"proplet_id": []}', b"\0" * 64):
            stage.peer.say(topic, payload)
    stage.create("p-1")
    stage.open_round(round_start("r-2"))
    stage.tasks(1)


def test_a_store_that_fails_holds_everything_up_and_loses_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_manager()
    stage.create("p-1")
    other = sqlite3.connect(stage.directory / "launches.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # as good as any failure of a commit
    stage.open_round(round_start())
    wait_until(lambda: "the store failed" in caplog.text, 30, "the failure is logged")
    assert not stage.tasks_so_far()
    other.execute("ROLLBACK")
    other.close()
    stage.tasks(1)


def test_a_store_that_is_damaged_ends_the_manager(stage: Stage) -> None:
    manager = stage.start_manager()
    stage.create("p-1")
    start = round_start()
    stage.open_round(start)
    stage.tasks(1)
    stage.until_saved("r-1", p_1="sent")
    stage.status(start, Phase.COMPLETE)
    stage.until_closed("r-1")
    with contextlib.closing(sqlite3.connect(stage.directory / "launches.db")) as other:
        [version] = other.execute("PRAGMA schema_version").fetchone()
        other.execute("PRAGMA writable_schema=ON")
        other.execute("UPDATE sqlite_schema SET sql = 'gibberish' WHERE name = 'rounds'")
        other.execute(f"PRAGMA schema_version={version + 1}")  # others read it again
        other.commit()
    stage.peer.say(TOPICS.round_start, start.encode())
    wait_until(lambda: manager.failure is not None, 10, "the manager has stopped")
    assert isinstance(manager.failure, DamagedStoreError)


def test_two_rounds_at_once(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    start = round_start()
    stage.open_round(start)
    stage.open_round(replace(start, round_id="r-2"))
    assert sorted(task.id for task in stage.tasks(2)) == ["r-1.p-1", "r-2.p-1"]
