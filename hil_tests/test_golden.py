"""The golden vectors: on a board, the reference modules write the very bytes they must.

The same vectors are the test of the modules on Wasmtime, so equal bytes here are equal bytes there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from hil_tests.boards import Board
from hil_tests.desk import WAIT_S, Desk
from propeller_fl.firmware import DeviceSetup, FirmwareImage
from propeller_fl.manager import ImageLibrary
from tests.support.brokers import RunningBroker
from tests.support.peers import Peer
from tests.wasm_client.golden import Case, load_all

OWN_IDS: Final = {
    "ROUND_ID": "r-0001",
    "MODEL_URI": "fl/models/global_model_v0",
    "PROPLET_ID": "proplet-1",
}


def cases_by_data() -> list[list[Case]]:
    """The cases that a manager could send, together where a board need not get other data.

    Left out are cases that a proplet does not let happen: files that are not there, an empty model
    (which is how a retained one is taken away), and ids other than its own or that are none.
    """
    groups: dict[bytes, list[Case]] = {}
    for case in load_all():
        if OWN_IDS.items() <= case.env.items() and case.files.get("model") and "data" in case.files:
            groups.setdefault(case.files["data"], []).append(case)
    return list(groups.values())


@pytest.mark.parametrize("cases", cases_by_data(), ids=lambda cases: str(cases[0].name))
def test_the_bytes_are_those_of_the_golden_vectors(
    cases: list[Case],
    new_board: Callable[..., Board],
    nats: RunningBroker,
    peer: Peer,
    tmp_path: Path,
) -> None:
    board = new_board()
    data = tmp_path / "data"
    data.write_bytes(cases[0].files["data"])
    desk = Desk(peer, OWN_IDS["PROPLET_ID"])
    board.start(DeviceSetup(desk.proplet_id, nats.address, data))
    desk.await_arrival(1)

    wrong = {}
    for case in cases:
        complaint = complaint_about(case, desk, board)
        if complaint:
            wrong[case.name] = complaint

    assert wrong == {}


def complaint_about(case: Case, desk: Desk, board: Board) -> str:
    """Run one case; what is wrong with how it went, or nothing."""
    before = len(desk.updates(case.env["ROUND_ID"]))
    desk.peer.publish(case.env["MODEL_URI"], case.files["model"], retain=True)
    sha256 = desk.image(ImageLibrary({}).fetch(f"builtin:{case.module}").data)
    task_id = desk.task(sha256, case.env, task_id=case.name)

    expected = expected_error(case, board.image)
    if not expected:
        update = desk.update(case.env["ROUND_ID"], number=before + 1)
        desk.acknowledge(case.env["ROUND_ID"], update)
    result = desk.result(task_id, WAIT_S)
    if expected:
        return "" if re.match(expected, result.error) else f"{result.error!r} is not {expected!r}"
    if result.error:
        return result.error
    return "" if update == case.stdout else f"{update!r} is not {case.stdout!r}"


def expected_error(case: Case, image: FirmwareImage) -> str:
    """How its result must begin, as a regular expression; empty when it must go well.

    A board has its own limits, and says so where a case goes beyond them.
    """

    def beyond(size_bytes: int, what: str) -> bool:
        return size_bytes > int(image.option(f"CONFIG_FL_{what}_BYTES_MAX"))

    if beyond(sum(len(f"{key}={value}") + 1 for key, value in case.env.items()), "ENV"):
        return "task: .*env.*too_large|task: .*too_large.*env"
    if beyond(len(case.files["model"]), "MODEL"):
        return "model: too_large"
    if beyond(len(case.stdout), "OUTPUT"):
        return "output: "
    if case.status != 0:
        return f"exit: status {case.status}: {case.stderr.strip()}"
    return ""


def test_there_are_vectors_of_every_reference_module() -> None:
    modules = {case.module for group in cases_by_data() for case in group if case.status == 0}

    assert modules == {"activity", "linear", "softmax"}
