"""What must arrive does, and what arrives twice does no harm."""

from __future__ import annotations

import hashlib

import pytest

from hil_tests.boards import Board, WestBoard
from hil_tests.desk import WAIT_S, Desk
from propeller_fl.wire import Manifest
from tests.proplet.modules import say

ROUND = {"ROUND_ID": "r-1"}
UPDATE = '{"round_id":"r-1"}'.replace('"', "'")  # to the proplet an update is just bytes


def test_an_update_is_sent_again_until_it_is_acknowledged(board: Board, desk: Desk) -> None:
    task_id = desk.task(desk.image(say(UPDATE)), ROUND)

    again = desk.update("r-1", number=2)
    desk.acknowledge("r-1", again)

    board.console.expect(f"task {task_id}: update accepted", WAIT_S)
    assert set(desk.updates("r-1")) == {UPDATE.encode()}
    assert desk.result(task_id).error == ""


def test_a_task_that_comes_twice_is_run_once(board: Board, desk: Desk) -> None:
    sha256 = desk.image(say(UPDATE))
    task_id = desk.task(sha256, ROUND)
    desk.acknowledge("r-1", desk.update("r-1"))
    board.console.expect(f"task {task_id}: update accepted", WAIT_S)

    desk.task(sha256, ROUND, task_id=task_id)

    board.console.expect(f"task {task_id}: .*seen before", WAIT_S, not_matching=["running"])
    assert desk.run(say("next")).results == "next"


def test_a_task_sent_while_it_was_away_is_done_when_it_is_back(board: Board, desk: Desk) -> None:
    if isinstance(board, WestBoard) and not board.can_cut_power:
        board.reset()
    else:
        board.power_cut()
    desk.await_offline()
    task_id = desk.task(desk.image(say("late")))

    board.reset()

    assert desk.result(task_id).results == "late"


def test_an_image_in_flash_is_kept_and_not_fetched_again(board: Board, desk: Desk) -> None:
    if not board.image.option("CONFIG_FL_IMAGE_FLASH"):
        pytest.skip("this board has its image in RAM, where a run uses it up")
    image = say("kept")
    sha256 = hashlib.sha256(image).hexdigest()
    assert desk.run(image).results == "kept"
    desk.peer.publish(desk.topics.image(sha256), b"", retain=True)  # it is no longer to be had

    assert desk.result(desk.task(sha256)).results == "kept"


def test_a_model_in_parts_is_refused_and_never_given_to_a_module(board: Board, desk: Desk) -> None:
    uri = "fl/models/global_model_v9"
    manifest = Manifest(9, 5_000, "0" * 64, 4096, ("1" * 64, "2" * 64), {"w": (9,)})
    desk.peer.publish(desk.topics.absolute(uri), manifest.encode(), retain=True)

    task_id = desk.task(desk.image(say("never")), {"MODEL_URI": uri})

    assert desk.result(task_id).error == "model: too_large: the model is published in parts"
