"""The engine in the hands of the test: what it holds, what it forgets, what must not stop it."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable
from typing import Any

import pytest

from propeller_fl.coordinator import (
    ENDED_SAID_AGAIN,
    MAX_METRICS,
    MAX_OPEN,
    MAX_OPEN_PARTICIPANTS,
    MAX_WAITING,
    Subscribe,
    Unsubscribe,
)
from propeller_fl.errors import StoreError
from propeller_fl.store import NewUpdate, RoundStore
from tests.coordinator.engine_desk import V0, Desk, FailsOnce, start, update


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.model(0)
    return desk


# --- what a round is about


def test_a_status_names_the_model_that_the_round_was_opened_on(desk: Desk) -> None:
    desk.start(start(), start("r-2"))
    desk.model(0, b=1.0)  # somebody replaces it, which counts once no round is about it
    desk.start(start("r-3"))
    desk.restart()
    desk.update(*(update("a", name) for name in ("r-1", "r-2", "r-3")))
    desk.model(0, b=1.0)
    desk.start(start("r-4"))
    names = ("r-1", "r-2", "r-3", "r-4")
    said = {name: desk.heard(f"fl/rounds/{name}/status")[-1] for name in names}
    digests = {name: status["model_sha256"] for name, status in said.items()}
    first, second = (digest(V0 | {"b": b}) for b in (0.0, 1.0))
    assert digests == {"r-1": first, "r-2": first, "r-3": first, "r-4": second}


def digest(model: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(model).encode()).hexdigest()


# --- a broker that has forgotten


def test_a_broker_that_may_have_forgotten_is_told_again(desk: Desk) -> None:
    for number in range(ENDED_SAID_AGAIN + 2):
        desk.run_round(f"r-{number}")
    desk.start(start("open", k_of_n=2))
    desk.update(update("a", "open"))
    desk.run_until(lambda: desk.engine.due_in_s(desk.now_s) > 1)
    before = dict(desk.retained)
    desk.retained.clear()

    desk.engine.broker_returned()
    desk.run_until(lambda: desk.engine.due_in_s(desk.now_s) > 1)

    forgotten = {f"fl/rounds/r-{n}/{kind}" for n in (0, 1) for kind in ("status", "complete")}
    assert desk.retained == {t: p for t, p in before.items() if t not in forgotten}


def test_a_store_that_fails_leaves_nothing_unsaid() -> None:
    store = FailsOnce(sqlite3.connect(":memory:", isolation_level=None))
    desk = Desk(store=store)
    desk.model(0)
    desk.run_round("r-1")
    desk.run_round("r-2")
    before = dict(desk.retained)
    desk.retained.clear()

    desk.engine.broker_returned()
    for _ in range(2):  # the store fails once when asked what has ended, once when asked how
        store.fails = True
        with pytest.raises(StoreError):
            desk.send()
        desk.send()
    desk.run_until(lambda: desk.engine.due_in_s(desk.now_s) > 1)

    assert desk.retained == before


def test_a_round_that_was_pruned_meanwhile_stays_cleared() -> None:
    desk = Desk(keep_rounds=1)
    desk.model(0)
    desk.run_round("r-1")
    desk.engine.broker_returned()
    desk.send()  # it knows by now what is to be said again
    desk.run_round("r-2")
    desk.run_until(lambda: desk.engine.due_in_s(desk.now_s) > 1)

    assert {topic.split("/")[2] for topic in desk.retained} == {"r-2"}


# --- starts that wait for their model


def test_two_starts_of_one_id_that_wait_are_both_answered(desk: Desk) -> None:
    uri = "fl/models/global_model_v5"
    first, second = desk.start(start(model_uri=uri), start(model_uri=uri, k_of_n=2))
    assert first not in desk.acked
    desk.model(5)
    assert first in desk.acked
    assert second in desk.acked
    [opened, refused] = sorted(desk.heard("fl/rounds/r-1/status"), key=lambda s: s["phase"])
    assert (opened["phase"], opened["k_of_n"]) == ("open", 1)
    assert (refused["phase"], refused["reason"]) == ("refused", "round_id_used")


def test_a_waiting_start_sent_again_is_acknowledged_once_the_first_is_safe(desk: Desk) -> None:
    document = start(model_uri="fl/models/global_model_v5")
    [first] = desk.start(document)
    [redelivered] = desk.start(document, duplicate=True)
    [another] = desk.start(document)
    assert another in desk.acked, "the broker has the first one still"
    assert first not in desk.acked
    assert redelivered not in desk.acked, "it may be the first one"
    desk.model(5)
    assert first in desk.acked
    assert redelivered in desk.acked


def test_a_model_that_two_starts_wait_for_is_asked_for_until_both_have_it(desk: Desk) -> None:
    uri = "fl/models/global_model_v5"
    desk.start(start("r-1", model_uri=uri))
    desk.now_s += 1.5
    desk.start(start("r-2", model_uri=uri))
    desk.now_s += 1.0  # the grace of the first is over
    desk.send()
    assert desk.heard("fl/rounds/r-1/status")[-1]["reason"] == "unknown_model"
    assert Unsubscribe(uri) not in desk.said
    desk.model(5)
    assert desk.heard("fl/rounds/r-2/status")[-1]["phase"] == "open"
    assert desk.said.index(Unsubscribe(uri)) > desk.said.index(Subscribe(uri))


def test_a_flood_of_starts_on_unknown_models_is_refused_beyond_a_bound(desk: Desk) -> None:
    flood = [start(f"r-{i}", model_uri=f"fl/models/global_model_v{i}") for i in range(1, 1001)]
    sent = desk.start(*flood)
    held = [incoming for incoming in sent if incoming not in desk.acked]
    assert len(held) == MAX_WAITING
    last = desk.heard("fl/rounds/r-1000/status")[-1]
    assert (last["phase"], last["reason"]) == ("refused", "too_many_rounds")
    desk.start(start("good"))
    assert desk.heard("fl/rounds/good/status")[-1]["phase"] == "open"
    desk.now_s += 3.0
    desk.send()
    assert all(incoming in desk.acked for incoming in sent), "each has its answer"


def test_rounds_beyond_a_bound_are_refused_until_others_have_ended(desk: Desk) -> None:
    desk.start(*(start(f"r-{number}") for number in range(MAX_OPEN)))
    desk.start(start("more"))
    refused = desk.heard("fl/rounds/more/status")[-1]
    assert (refused["phase"], refused["reason"]) == ("refused", "too_many_rounds")
    desk.update(update("a", "r-7"))
    desk.start(start("more"))
    assert desk.heard("fl/rounds/more/status")[-1]["phase"] == "open"


def test_participants_of_open_rounds_are_bounded_as_well(desk: Desk) -> None:
    size = 100_000
    names = [f"p{number}" for number in range(size)]
    for number in range(MAX_OPEN_PARTICIPANTS // size):
        desk.start(start(f"r-{number}", participants=names))
    desk.start(start("more"))
    assert desk.heard("fl/rounds/more/status")[-1]["reason"] == "too_many_rounds"


# --- what must not stop it


def test_text_that_is_not_unicode_is_refused_like_any_other(desk: Desk) -> None:
    desk.start(start())
    [incoming] = desk.update(update("a", base_model_uri="\ud800"))
    assert incoming in desk.acked
    assert desk.heard("fl/rounds/r-1/acks/a")[-1]["reason"] == "stale_base_model"
    [line] = desk.store.story("r-1")
    assert r"\ud800" in line.detail


class FragileStore(RoundStore):
    """Has a mistake that nobody has thought of."""

    def keep_updates(self, updates: Iterable[NewUpdate], at_s: float) -> None:
        updates = list(updates)
        if any(update.facts.proplet_id == "b" for update in updates):
            raise RuntimeError("nobody has thought of this")
        super().keep_updates(updates, at_s)


def test_a_message_that_does_harm_is_skipped_and_the_others_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Desk().database
    desk = Desk(store=FragileStore(database))
    desk.model(0)
    desk.start(start(k_of_n=2))
    sent = desk.update(update("a"), update("b"), update("c"))
    assert all(incoming in desk.acked for incoming in sent)
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["num_updates"], complete["missing"]) == (2, ["b"])
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "is skipped" in record.message


def test_more_metrics_than_anyone_needs_are_refused(desk: Desk) -> None:
    desk.start(start())
    desk.update(update("a", metrics={f"m{i}": 1.0 for i in range(MAX_METRICS + 1)}))
    assert desk.heard("fl/rounds/r-1/acks/a")[-1]["reason"] == "bad_field"
    desk.update(update("b", metrics={"m" * 1000: 1.0}))
    assert desk.heard("fl/rounds/r-1/acks/b")[-1]["reason"] == "bad_field"
    desk.update(update("c", metrics={f"m{i}": 1.0 for i in range(MAX_METRICS)}))
    assert desk.heard("fl/rounds/r-1/complete")[-1]["num_updates"] == 1


def test_metrics_that_differ_in_every_update_do_not_outgrow_a_message(desk: Desk) -> None:
    names = [f"p{i}" for i in range(100)]
    desk.start(start(participants=names, k_of_n=100))
    for name in names:
        metrics = {f"{name}-{i:0100}": 1.0 for i in range(MAX_METRICS)}
        desk.update(update(name, metrics=metrics))
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert complete["num_updates"] == 100
    assert 0 < len(complete["metrics"]) <= MAX_METRICS


def test_no_round_makes_version_0_though_none_has_been_heard_of() -> None:
    """It is what people begin with, and a retained message of it may only be late."""
    desk, uri = Desk(), "fl/models/upstream-0"
    desk.send((uri, V0))
    desk.run_round("r-1", model_uri=uri)
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert complete["model_topic"] == "fl/models/global_model_v1"


def test_after_the_last_version_there_is_none(desk: Desk) -> None:
    last = 10**18 - 1
    desk.model(last)
    for round_id in ("r-1", "r-2"):
        desk.start(start(round_id))
        desk.update(update("a", round_id))
        [complete] = desk.heard(f"fl/rounds/{round_id}/complete")
        assert complete["status"] == "failed"
        assert "version" in complete["detail"]
    assert desk.heard("fl/models/publish") == []


# --- a store that fails


def test_what_the_broker_has_is_settled_though_the_store_failed_meanwhile(desk: Desk) -> None:
    desk.run_round("r-1")
    assert desk.count("outbox") == 3
    desk.database.execute("PRAGMA query_only=ON")
    with pytest.raises(StoreError):
        desk.send()
    desk.database.execute("PRAGMA query_only=OFF")
    desk.send()
    assert desk.count("outbox") == 0


def test_what_a_failed_batch_had_to_say_is_not_said(desk: Desk) -> None:
    desk.start(start(k_of_n=2))
    desk.database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON refusals BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    )
    with pytest.raises(StoreError):
        desk.update(update("a"), update("stranger"))
    assert desk.heard("fl/rounds/r-1/acks/a") == []
    desk.database.execute("DROP TRIGGER full")
    desk.update(update("a"), update("stranger"))
    assert [ack["status"] for ack in desk.heard("fl/rounds/r-1/acks/a")] == ["accepted"]
    assert desk.heard("fl/rounds/r-1/status")[-1]["accepted"] <= 1
