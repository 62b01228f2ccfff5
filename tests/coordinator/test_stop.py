"""Rounds that an operator stops: early, late, twice, too soon, and in rounds of files."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from propeller_fl.store import MAX_STOPPED, RoundStore
from tests.coordinator.engine_desk import Desk, FailsOnce, start, update

WHY = "stopped by operator: the data are wrong"


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.model(0)
    return desk


def stop(round_id: str = "r-1", reason: str = "the data are wrong") -> tuple[str, Any]:
    return f"fl/rounds/{round_id}/stop", {"round_id": round_id, "reason": reason}


def ends(desk: Desk, round_id: str = "r-1") -> list[tuple[str, str]]:
    heard = desk.heard(f"fl/rounds/{round_id}/complete")
    return [(complete["status"], complete["detail"]) for complete in heard]


def last_status(desk: Desk, round_id: str = "r-1") -> dict[str, Any]:
    found: dict[str, Any] = desk.heard(f"fl/rounds/{round_id}/status")[-1]
    return found


def test_an_open_round_ends_at_once_and_for_good(desk: Desk) -> None:
    desk.start(start(k_of_n=3))
    desk.update(update("a"))
    [message] = desk.send(stop())
    assert message in desk.acked
    assert ends(desk) == [("failed", WHY)]
    status = last_status(desk)
    assert (status["phase"], status["detail"], status["answered"]) == ("failed", WHY, ["a"])
    desk.restart()
    desk.now_s += 1_000
    desk.update(update("b"), update("a"))
    desk.send()
    assert desk.heard("fl/rounds/r-1/acks/b")[-1]["reason"] == "round_closed"
    assert desk.heard("fl/rounds/r-1/acks/a")[-1]["status"] == "accepted"
    assert set(ends(desk)) == {("failed", WHY)}
    assert desk.heard("fl/models/publish") == []
    assert desk.store.latest_version() == 0


def test_a_stop_with_the_last_update_wins(desk: Desk) -> None:
    """Both are in one batch, so no model has been made yet."""
    desk.start(start(k_of_n=1))
    desk.send(("fml/updates", update("a")), stop())
    assert ends(desk) == [("failed", WHY)]
    assert desk.heard("fl/models/publish") == []


def test_again_and_after_the_end_it_is_only_answered(desk: Desk) -> None:
    desk.start(start(k_of_n=3), start("r-2"))
    desk.update(update("a", "r-2"))
    desk.send(stop(), stop(reason="another"))
    desk.send(stop(reason="yet another"))
    assert ends(desk) == [("failed", WHY)]
    before = len(desk.heard("fl/rounds/r-2/status"))
    desk.send(stop("r-2"))
    assert ends(desk, "r-2") == [("complete", "")]
    said = desk.heard("fl/rounds/r-2/status")[before:]
    assert [status["phase"] for status in said] == ["complete"]


def test_a_round_that_was_pruned_is_answered_with_its_end() -> None:
    desk = Desk(keep_rounds=1)
    desk.model(0)
    desk.run_round("r-1")
    desk.run_round("r-2")
    desk.run_until(lambda: "fl/rounds/r-1/status" not in desk.retained)
    desk.send(stop())
    assert last_status(desk)["phase"] == "complete"
    assert "fl/rounds/r-1/status" not in desk.retained


def test_what_is_stopped_before_its_start_is_never_opened(desk: Desk) -> None:
    desk.send(stop())
    answer = last_status(desk)
    assert (answer["phase"], answer["reason"]) == ("refused", "stopped")
    assert "fl/rounds/r-1/status" not in desk.retained  # nobody has asked for that round
    desk.restart()
    desk.send(stop())
    asked = desk.start(start(), start(k_of_n=2))
    assert all(message in desk.acked for message in asked)
    status = last_status(desk)
    assert (status["phase"], status["reason"]) == ("refused", "stopped")
    assert status["start_sha256"]
    assert desk.count("rounds") == 0
    desk.update(update("a"))
    assert desk.heard("fl/rounds/r-1/acks/a")[-1]["reason"] == "round_closed"


def test_a_start_that_waits_for_its_model_is_refused(desk: Desk) -> None:
    [waiting] = desk.start(start(model_uri="fl/models/global_model_v9"))
    assert waiting not in desk.acked
    desk.send(stop())
    assert waiting in desk.acked
    assert [s["reason"] for s in desk.heard("fl/rounds/r-1/status")] == ["stopped", "stopped"]
    desk.model(9)
    desk.now_s += 1_000
    desk.send()
    assert desk.count("rounds") == 0


def test_a_stop_that_the_store_did_not_take_is_asked_for_again() -> None:
    store = FailsOnce(sqlite3.connect(":memory:", isolation_level=None))
    desk = Desk(store=store)
    desk.model(0)
    desk.start(start(k_of_n=3))
    for message in (stop(), stop("unknown")):
        store.fails = True
        with pytest.raises(Exception, match="the disk is full"):
            desk.send(message)
        desk.send()
    assert ends(desk) == []
    desk.send(stop(), stop("unknown"))
    assert ends(desk) == [("failed", WHY)]
    assert last_status(desk, "unknown")["reason"] == "stopped"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        {"round_id": "r-2"},
        {"round_id": "r-1", "reason": "x" * 501},
        {"round_id": "r-1", "reason": 7},
        {"reason": "x"},
    ],
)
def test_a_stop_that_cannot_be_read_stops_nothing(desk: Desk, document: Any) -> None:
    desk.start(start(k_of_n=3), start("r-2", k_of_n=3))
    [message] = desk.send(("fl/rounds/r-1/stop", document))
    assert message in desk.acked
    assert desk.engine.count_rounds()["open"] == 2


@pytest.mark.parametrize("reason", ["\ud800", "a\x00b\n", "é" * 500])
def test_a_reason_may_be_anything_that_json_can_say(desk: Desk, reason: str) -> None:
    desk.start(start(k_of_n=3))
    desk.send(stop(reason=reason))
    [(status, detail)] = ends(desk)
    assert status == "failed"
    assert detail.startswith("stopped by operator: ")
    desk.restart()
    assert desk.store.load_open_rounds() == []


def test_a_reason_may_be_left_out(desk: Desk) -> None:
    desk.start(start(k_of_n=3))
    desk.send(("fl/rounds/r-1/stop", {"round_id": "r-1"}))
    assert ends(desk) == [("failed", "stopped by operator")]


def test_ids_that_were_nobodys_do_not_fill_the_disk(desk: Desk) -> None:
    with desk.store.transaction():
        kept = [desk.store.remember_stopped(f"x-{number}") for number in range(MAX_STOPPED + 1)]
    assert kept == [True] * MAX_STOPPED + [False]
    desk.send(stop())
    assert last_status(desk)["reason"] == "unknown_round"
    desk.start(start())
    assert last_status(desk)["phase"] == "open"
    assert not RoundStore(desk.database).remember_stopped("one-more")
