"""Which files are fetched when."""

from __future__ import annotations

from propeller_fl.coordinator import FETCHES, Collecting, Job
from propeller_fl.wire import Manifest, UpdateManifest

SIZE = 10_000
FILE = Manifest(0, SIZE, "f" * 64, 4096, ("a" * 64, "b" * 64, "c" * 64), {"w": (2400,)})


def job(proplet_id: str, round_id: str = "r-1", sha256: str = "") -> Job:
    update = UpdateManifest(round_id, proplet_id, "fl/models/global_model_v0", 1, {}, FILE)
    return Job(update, sha256 or proplet_id)


def begun(collecting: Collecting) -> list[Job]:
    found = []
    while (one := collecting.next()) is not None:
        found.append(one)
    return found


def test_a_few_at_a_time_in_the_order_of_offers() -> None:
    collecting = Collecting(100 * SIZE)
    jobs = [job(f"p-{n}") for n in range(FETCHES + 2)]
    assert not any(collecting.want(one) for one in jobs)
    assert begun(collecting) == jobs[:FETCHES]
    assert collecting.ended(jobs[0])
    assert begun(collecting) == [jobs[FETCHES]]


def test_one_that_gets_nowhere_goes_behind_the_others() -> None:
    collecting = Collecting(100 * SIZE)
    jobs = [job(f"p-{n}") for n in range(FETCHES + 1)]
    for one in jobs:
        collecting.want(one)
    begun(collecting)
    collecting.ended(jobs[0], again=True)
    assert begun(collecting) == [jobs[FETCHES]]
    collecting.ended(jobs[1])
    assert begun(collecting) == [jobs[0]]


def test_what_there_is_no_room_for_waits_until_there_is() -> None:
    collecting = Collecting(2 * SIZE)
    collecting.holds(("r-0", "old"), SIZE)
    first, second = job("a"), job("b")
    collecting.want(first)
    collecting.want(second)
    assert begun(collecting) == [first]
    assert collecting.ended(first)
    assert begun(collecting) == []  # a whole file still takes its room
    assert collecting.discard("r-0") == []
    assert begun(collecting) == [second]


def test_another_offer_of_a_proplet_waits_for_the_end_of_the_first() -> None:
    collecting = Collecting(100 * SIZE)
    first, second = job("a"), job("a", sha256="other")
    collecting.want(first)
    assert begun(collecting) == [first]
    assert not collecting.want(first)
    assert collecting.want(second)  # the first is to be cancelled
    assert begun(collecting) == []
    assert not collecting.ended(first)  # nobody wants to know
    assert begun(collecting) == [second]


def test_what_is_discarded_is_not_heard_of_again() -> None:
    collecting = Collecting(100 * SIZE)
    running, waiting = job("a"), job("b")
    collecting.want(running)
    assert begun(collecting) == [running]
    collecting.want(waiting)
    assert collecting.discard("r-1") == [running.key]
    assert collecting.is_running("r-1")
    assert not collecting.ended(running)
    assert not collecting.is_running("r-1")
    assert begun(collecting) == []
