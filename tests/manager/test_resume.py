"""The manager stops or the broker forgets in the middle of a round."""

from __future__ import annotations

import shutil

from propeller_fl.link import LinkLimits
from propeller_fl.wire import Phase, RoundStatus, TaskResult

from .conftest import DEADLINE_S, MODEL_SHA256, TOPICS, WASM, Stage, round_start


def test_an_open_round_goes_on_after_a_restart(stage: Stage) -> None:
    stage.start_manager()
    stage.create("early")
    stage.create("done")
    start = round_start(participants=("early", "done", "late"))
    stage.open_round(start)
    stage.tasks(2)
    stage.peer.say(TOPICS.proplet_results, TaskResult("r-1.done", "done", results="ok").encode())
    stage.until_saved("r-1", early="sent", done="done")
    stage.stop_manager()

    stage.start_manager()
    for proplet_id in ("early", "done", "late"):
        stage.alive(proplet_id)
    assert stage.tasks(3)[2].proplet_id == "late"
    stage.settle()
    assert len(stage.tasks_so_far()) == 3  # those that went out do not go out again

    stage.status(start, Phase.COMPLETE)
    assert len(stage.peer.expect(TOPICS.task_stop, 2)) == 2  # early and late


def test_a_task_says_the_same_before_and_after_a_restart(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    [before] = stage.tasks(1)
    assert before.fl is not None
    assert (before.fl.model_sha256, before.fl.deadline) == (MODEL_SHA256, DEADLINE_S)
    stage.until_saved("r-1", p_1="sent")
    stage.stop_manager()
    stage.peer.say(TOPICS.status("r-1"), b"", retain=True)  # it has to know by itself

    stage.start_manager()
    stage.create("p-1")
    assert stage.tasks(2)[1] == before


def test_a_proplet_that_restarts_before_the_image_is_at_hand_again(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    [before] = stage.tasks(1)
    stage.until_saved("r-1", p_1="sent")
    stage.stop_manager()
    stage.image.unlink()

    stage.start_manager()
    stage.create("p-1")  # and has lost its task
    stage.image.write_bytes(WASM)
    assert stage.tasks(2)[1] == before


def test_a_round_opened_by_an_older_coordinator_is_about_what_the_status_says_later(
    stage: Stage,
) -> None:
    stage.start_manager()
    start = round_start()
    stage.peer.say(TOPICS.round_start, start.encode())
    old = RoundStatus("r-1", Phase.OPEN, start.digest())
    stage.peer.say(TOPICS.status("r-1"), old.encode(), retain=True)
    stage.report("r-1", absent=("p-1",))
    stage.status(start, Phase.OPEN)
    stage.settle()
    stage.stop_manager()
    saved = stage.saved("r-1")
    assert saved is not None
    assert (saved.model_sha256, saved.deadline_at_s) == (MODEL_SHA256, DEADLINE_S)


def test_a_start_is_remembered_before_it_is_opened(stage: Stage) -> None:
    stage.start_manager()
    start = round_start()
    stage.peer.say(TOPICS.round_start, start.encode())
    stage.settle()
    stage.stop_manager()

    stage.start_manager()
    stage.status(start, Phase.OPEN)
    stage.create("p-1")
    stage.tasks(1)


def test_a_start_that_came_while_we_were_away(stage: Stage) -> None:
    stage.start_manager()
    stage.stop_manager()
    start = round_start()
    stage.open_round(start)
    stage.start_manager()
    stage.create("p-1")
    stage.tasks(1)


def test_a_round_that_ended_while_we_were_away(stage: Stage) -> None:
    stage.start_manager()
    start = round_start()
    stage.open_round(start)
    stage.report("r-1", absent=("p-1",))
    stage.stop_manager()
    stage.status(start, Phase.FAILED)
    stage.start_manager()
    stage.until_closed("r-1")
    stage.create("p-1")
    stage.settle()
    assert not stage.tasks_so_far()


def test_own_start_topics_are_remembered(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1", own_start_topic="true")
    stage.stop_manager()
    stage.start_manager()
    stage.alive("p-1")
    stage.open_round(round_start())
    stage.tasks(1, TOPICS.task_start_of("p-1"))


def test_the_image_stays_the_same_within_a_round(stage: Stage) -> None:
    stage.start_manager()
    stage.open_round(round_start())
    stage.report("r-1", absent=("p-1",))
    stage.stop_manager()
    stage.image.write_bytes(WASM + b"rebuilt")
    stage.start_manager()
    stage.create("p-1")
    stage.peer.expect_like(TOPICS.launch("r-1"), lambda payload: b"the round asks for" in payload)
    assert not stage.tasks_so_far()


def test_a_broker_that_lost_everything_is_told_again(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1")
    stage.open_round(round_start())
    stage.tasks(1)
    stage.report("r-1", launched=("p-1",))  # acknowledged: MQTT will not send it again by itself
    stage.broker.kill()
    forget(stage)
    stage.broker.start()
    stage.until_alive("p-1", False)  # it may not be back, and would miss its task
    stage.now_s += 1.0
    stage.alive("p-1")
    assert {task.id for task in stage.tasks(2)} == {"r-1.p-1"}  # or more often: at least once
    stage.image_is_retained()


def test_a_broker_whose_memory_is_old_is_told_again(stage: Stage) -> None:
    stage.start_manager()
    stage.create("p-1", own_start_topic="true")
    stage.broker.stop()
    shutil.copytree(stage.directory / "broker" / "store", stage.directory / "old")
    stage.broker.start()
    stage.open_round(round_start())
    stage.tasks(1, TOPICS.task_start_of("p-1"))
    stage.report("r-1", launched=("p-1",))  # acknowledged: MQTT will not send it again by itself
    stage.broker.kill()
    forget(stage)
    shutil.copytree(stage.directory / "old", stage.directory / "broker" / "store")
    stage.broker.start()  # it knows our session, and nothing of the round

    stage.image_is_retained()
    stage.alive("p-1")
    told = stage.tasks(2, TOPICS.task_start_of("p-1"))  # or more often: at least once
    assert {task.id for task in told} == {"r-1.p-1"}


def test_more_tasks_than_the_link_takes_at_once(stage: Stage) -> None:
    participants = tuple(f"p-{number}" for number in range(60))
    stage.start_manager(LinkLimits(max_queued=8))
    for proplet_id in participants:
        stage.create(proplet_id)
    stage.open_round(round_start(participants=participants))
    assert sorted(task.proplet_id for task in stage.tasks(60)) == sorted(participants)
    stage.report("r-1", launched=participants)


def forget(stage: Stage) -> None:
    """Take the broker's memory away."""
    shutil.rmtree(stage.directory / "broker" / "store")
