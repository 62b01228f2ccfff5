"""A proplet trains on the model that its task is about, or not at all."""

from __future__ import annotations

import hashlib

from hil_tests.boards import Board
from hil_tests.desk import WAIT_S, Desk
from propeller_fl.wire import FlSpec, Outcome, RoundComplete, model_uri
from tests.proplet.modules import say

MODEL = b'{"w":[0.5],"version":0}'
OTHER = b'{"w":[9.5],"version":0}'
SPEC = FlSpec("r-1", model_uri(0), hashlib.sha256(MODEL).hexdigest())
ENV = {"ROUND_ID": SPEC.round_id, "MODEL_URI": SPEC.model_uri}


def given_the_other(board: Board, desk: Desk) -> str:
    """A task whose model somebody has overwritten; returns its id once that was seen."""
    desk.peer.publish(SPEC.model_uri, OTHER, retain=True)
    task_id = desk.task(desk.image(say("update")), ENV, fl=SPEC)
    board.console.expect("model: mismatch", WAIT_S, not_matching=["running"])
    return task_id


def test_another_model_is_not_trained_on_and_the_right_one_waited_for(
    board: Board, desk: Desk
) -> None:
    task_id = given_the_other(board, desk)

    desk.peer.publish(SPEC.model_uri, MODEL, retain=True)

    desk.acknowledge("r-1", desk.update("r-1"))
    assert desk.result(task_id).error == ""


def test_another_model_to_the_end_of_the_round_is_the_tasks_error(board: Board, desk: Desk) -> None:
    task_id = given_the_other(board, desk)

    complete = RoundComplete("r-1", Outcome.FAILED, 0, SPEC.model_uri, 0, 0, "")
    desk.peer.publish(desk.topics.complete("r-1"), complete.encode(), retain=True)

    found, wanted = hashlib.sha256(OTHER).hexdigest(), SPEC.model_sha256
    assert desk.result(task_id).error == f"model: mismatch: {found}, not {wanted}"
    assert not desk.updates("r-1")


def test_a_task_that_contradicts_itself_is_refused(board: Board, desk: Desk) -> None:
    task_id = desk.task("0" * 64, {**ENV, "ROUND_ID": "r-2"}, fl=SPEC)

    assert desk.result(task_id).error == "task: bad_field: fl.round_id"
