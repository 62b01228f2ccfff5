"""A task whose round is over gives its worker back at once, whatever its module does."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ..support.wait import wait_until
from .conftest import HostMaker
from .modules import ENDLESS
from .other_side import OtherSide, update, writes

LONG_S = 300.0
WAIT_S = 60.0
FUEL = 1 << 50


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (
            lambda other: other.close_round(),
            "round r-1 closed (complete) before the module had run",
        ),
        (lambda other: (other.stop("t-1"), other.stop("t-2")), "stopped by the manager"),
    ],
    ids=["round", "task"],
)
def test_the_only_worker_takes_the_next_task(
    other: OtherSide, host: HostMaker, end: Callable[[OtherSide], None], words: str
) -> None:
    proplets = host(workers=1, wall_time_s=LONG_S, fuel=FUEL)
    other.run(ENDLESS)
    other.run(ENDLESS, "t-2")
    wait_until(lambda: proplets.runs_queued == 1, WAIT_S, "one waits for the other")

    end(other)

    assert {other.wait_for_result(task).error for task in ("t-1", "t-2")} == {words}
    other.run(writes(update("r-2")), "t-3", round_id="r-2")
    other.wait_for_updates(round_id="r-2")
    assert len(other.results()) == 1


def test_another_run_of_the_process_goes_on(other: OtherSide, host: HostMaker) -> None:
    proplets = host("p-1", "p-2", workers=2, wall_time_s=LONG_S, fuel=FUEL)
    for number, proplet_id in enumerate(("p-1", "p-2", "p-1"), 1):
        other.run(ENDLESS, f"t-{number}", round_id=f"r-{number}", proplet_id=proplet_id)
    wait_until(lambda: proplets.runs_queued == 1, WAIT_S, "one waits for the two others")

    other.close_round("r-1")
    assert "round r-1 closed" in other.wait_for_result("t-1").error
    wait_until(lambda: proplets.runs_queued == 0, WAIT_S, "the two others run")
    other.close_round("r-3")
    other.run(writes(update("r-4")), "t-4", round_id="r-4")

    other.wait_for_updates(round_id="r-4")
    assert "round r-3 closed" in other.wait_for_result("t-3").error
    assert other.results("t-2") == []
    other.close_round("r-2")
    assert "round r-2 closed" in other.wait_for_result("t-2").error


def test_a_process_that_ends_does_not_wait_for_a_module(other: OtherSide, host: HostMaker) -> None:
    proplets = host(workers=1, wall_time_s=LONG_S, fuel=FUEL)
    other.run(ENDLESS)
    other.run(ENDLESS, "t-2")
    wait_until(lambda: proplets.runs_queued == 1, WAIT_S, "one waits for the other")

    ending = threading.Thread(target=proplets.stop)
    ending.start()

    wait_until(lambda: not ending.is_alive(), WAIT_S, "all has ended")
