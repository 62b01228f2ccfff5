"""What is asked for and what is published, with a clock of our own."""

from __future__ import annotations

import random

import pytest

from propeller_fl.parts import Fetch, Serving
from propeller_fl.wire import Manifest


def digest(number: int) -> str:
    return f"{number:064x}"


def manifest(*numbers: int) -> Manifest:
    size_bytes = 4096 * len(numbers)
    return Manifest(0, size_bytes, digest(0), 4096, tuple(map(digest, numbers)), {"w": (2,)})


def test_a_window_at_a_time_in_the_order_of_the_file() -> None:
    fetch = Fetch(manifest(*range(10)), window=4)
    assert fetch.ask(0.0) == [digest(n) for n in range(4)]
    assert fetch.ask(0.1) == []
    assert fetch.arrived(digest(0)) == [0]
    assert fetch.ask(0.2) == []  # not one by one
    fetch.arrived(digest(1))
    assert fetch.ask(0.3) == [digest(4), digest(5)]


def test_what_does_not_come_is_asked_for_again_and_less_often() -> None:
    fetch = Fetch(manifest(1, 2), window=2)
    fetch.ask(0.0)
    assert fetch.due_in_s(0.0) == 2.0
    fetch.arrived(digest(2))
    asked_s = [now for now in range(200) if digest(1) in fetch.ask(float(now))]
    gaps = [after - before for before, after in zip([0, *asked_s], asked_s, strict=False)]
    assert gaps == [2, 4, 8, 16, 30, 30, 30, 30, 30]


def test_the_same_part_in_several_places() -> None:
    fetch = Fetch(manifest(7, 8, 7, 7), window=4, have=[2])
    assert fetch.missing == [0, 1, 3]
    assert fetch.ask(0.0) == [digest(7), digest(8)]
    assert fetch.arrived(digest(7)) == [0, 3]
    assert fetch.arrived(digest(7)) == []
    assert fetch.arrived(digest(99)) == []
    assert not fetch.done
    fetch.arrived(digest(8))
    assert fetch.done
    assert fetch.ask(100.0) == []


def test_what_others_have_asked_for_counts() -> None:
    fetch = Fetch(manifest(*range(6)), window=2)
    for number in (5, 4, 3):
        assert fetch.arrived(digest(number)) == [number]
    assert fetch.missing == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_it_ends_however_much_is_lost(seed: int) -> None:
    """With every other message lost, each part is had in the end, and the window is kept."""
    rng = random.Random(seed)
    fetch = Fetch(manifest(*(rng.randrange(30) for _ in range(60))), window=5)
    now_s, under_way = 0.0, set[str]()
    while not fetch.done:
        for sha256 in fetch.ask(now_s):
            under_way.add(sha256)
            if rng.random() < 0.5:
                fetch.arrived(sha256)
                under_way.discard(sha256)
        assert len(under_way) <= 5
        now_s += max(0.01, fetch.due_in_s(now_s))
        assert now_s < 10_000


def test_one_sending_for_many_who_ask() -> None:
    serving = Serving()
    for _ in range(1000):
        serving.wanted([digest(1), digest(2)], 0.0)
    assert [serving.next(0.0), serving.next(0.0), serving.next(0.0)] == [digest(1), digest(2), None]
    serving.wanted([digest(1), digest(3)], 0.5)  # those did not yet hear the first
    assert [serving.next(0.5), serving.next(0.5)] == [digest(3), None]
    serving.wanted([digest(1)], 2.0)  # it was lost on its way to somebody
    assert serving.next(2.0) == digest(1)


def test_a_flood_of_wishes_is_bounded() -> None:
    serving = Serving()
    serving.wanted(map(digest, range(100_000)), 0.0)
    taken = 0
    while serving.next(0.0) is not None:
        taken += 1
    assert taken == 4096
