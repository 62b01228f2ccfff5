"""Who is alive, by what was said and by time."""

from __future__ import annotations

from propeller_fl.manager import Fleet, Presence
from propeller_fl.wire import Alive, Discovery, Liveness

OFFLINE = Alive("p", Liveness.OFFLINE)


def test_nobody_is_alive_before_a_word() -> None:
    assert not Fleet(30.0).is_alive("p", 0.0)


def test_alive_until_silent_for_longer_than_the_timeout() -> None:
    fleet = Fleet(30.0)
    assert fleet.created(Discovery("p"), 100.0) is Presence.CAME
    assert fleet.is_alive("p", 130.0)
    assert not fleet.is_alive("p", 130.1)


def test_a_heartbeat_is_enough_to_be_known() -> None:
    fleet = Fleet(30.0)
    assert fleet.heard(Alive("p", namespace="lab"), 0.0) is Presence.CAME
    [proplet] = fleet.snapshot(10.0)
    assert (proplet.proplet_id, proplet.namespace, proplet.alive) == ("p", "lab", True)
    assert proplet.silent_s == 10.0


def test_heartbeats_keep_it_alive() -> None:
    fleet = Fleet(30.0)
    fleet.heard(Alive("p"), 0.0)
    assert fleet.heard(Alive("p"), 25.0) is Presence.STAYED
    assert fleet.is_alive("p", 50.0)


def test_offline_at_once_and_back() -> None:
    fleet = Fleet(30.0)
    fleet.heard(Alive("p"), 0.0)
    assert fleet.heard(OFFLINE, 1.0) is Presence.LEFT
    assert not fleet.is_alive("p", 1.0)
    assert fleet.heard(Alive("p"), 2.0) is Presence.RETURNED
    assert fleet.is_alive("p", 2.0)


def test_back_after_silence() -> None:
    fleet = Fleet(30.0)
    fleet.heard(Alive("p"), 0.0)
    assert fleet.heard(Alive("p"), 31.0) is Presence.RETURNED


def test_a_last_will_of_a_stranger() -> None:
    fleet = Fleet(30.0)
    assert fleet.heard(OFFLINE, 0.0) is Presence.LEFT
    assert fleet.heard(Alive("p"), 1.0) is Presence.RETURNED


def test_restored_is_known_and_not_alive() -> None:
    fleet = Fleet(30.0)
    fleet.restore(Discovery("p", metadata={"own_start_topic": "true"}))
    [proplet] = fleet.snapshot(0.0)
    assert not proplet.alive
    assert proplet.silent_s is None
    assert fleet.has_own_topics("p")
    assert fleet.heard(Alive("p"), 1.0) is Presence.CAME


def test_own_topics_only_where_announced() -> None:
    fleet = Fleet(30.0)
    fleet.created(Discovery("own", metadata={"own_start_topic": "true"}), 0.0)
    fleet.created(Discovery("no", metadata={"own_start_topic": "false"}), 0.0)
    fleet.heard(Alive("bare"), 0.0)
    assert [fleet.has_own_topics(p) for p in ("own", "no", "bare", "stranger")] == [
        True,
        False,
        False,
        False,
    ]


def test_in_doubt_until_heard_again() -> None:
    fleet = Fleet(30.0)
    fleet.heard(Alive("before"), 1.0)
    fleet.heard(Alive("after"), 3.0)
    fleet.doubt(2.0)
    assert not fleet.is_alive("before", 3.0)
    assert fleet.is_alive("after", 3.0)
    assert fleet.heard(Alive("before"), 4.0) is Presence.CAME
