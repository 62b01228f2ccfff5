"""What is kept of rounds that have ended, and for how long."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from propeller_fl.config import load
from propeller_fl.errors import ConfigError
from propeller_fl.store import RoundStore, check_rounds
from propeller_fl.wire import RoundStart
from tests.coordinator.engine_desk import Desk, start, update


def pruning_desk(keep_rounds: int) -> Desk:
    desk = Desk(keep_rounds=keep_rounds)
    desk.model(0)
    return desk


def rounds(desk: Desk) -> list[str]:
    """The ids of the rounds that are kept, by their end."""
    return [
        id_ for (id_,) in desk.database.execute("SELECT round_id FROM rounds ORDER BY ended_no")
    ]


def at_rest(desk: Desk) -> bool:
    return desk.engine.due_in_s(desk.now_s) > 1.0


def test_the_newest_rounds_are_kept_and_of_the_others_nothing_but_the_id() -> None:
    desk = pruning_desk(2)
    for number in range(5):
        desk.start(start(f"r-{number}"))
        desk.update(update("stranger", f"r-{number}"))
        desk.update(update("a", f"r-{number}"))
    desk.run_until(lambda: at_rest(desk))
    assert rounds(desk) == ["r-3", "r-4"]
    assert (desk.count("updates"), desk.count("refusals"), desk.count("outbox")) == (2, 2, 0)
    assert desk.store.load_round("r-2") is None
    assert desk.store.completion("r-2") is None
    listed = {round_.opening.start.round_id for round_, _ in desk.store.list_rounds(10)}
    assert listed == {"r-3", "r-4"}
    assert sorted(desk.retained) == [
        "fl/rounds/r-3/complete",
        "fl/rounds/r-3/status",
        "fl/rounds/r-4/complete",
        "fl/rounds/r-4/status",
    ]
    assert len(desk.heard("fl/rounds/r-0/complete")) == 1, "it was published before it was cleared"


def test_zero_keeps_everything() -> None:
    desk = pruning_desk(0)
    for number in range(5):
        desk.run_round(f"r-{number}")
    desk.run_until(lambda: at_rest(desk))
    assert len(rounds(desk)) == 5
    assert desk.count("models") == 6


def test_rounds_count_by_their_end_and_open_ones_are_kept() -> None:
    desk = pruning_desk(1)
    desk.start(start("slow"), start("open"))
    for number in range(3):
        desk.run_round(f"r-{number}")
    desk.update(update("a", "slow"))
    desk.run_until(lambda: desk.count("rounds") == 2 and at_rest(desk))
    assert sorted(rounds(desk)) == ["open", "slow"]
    desk.update(update("a", "open"))
    assert desk.heard("fl/rounds/open/complete")[-1]["num_updates"] == 1


def test_the_id_of_a_pruned_round_is_never_another_rounds() -> None:
    desk = pruning_desk(1)
    for number in range(3):
        desk.run_round(f"r-{number}")
    desk.run_until(lambda: at_rest(desk))
    desk.restart()
    published = len(desk.published)

    desk.start(start("r-0", k_of_n=2))
    refused = desk.heard("fl/rounds/r-0/status")[-1]
    assert (refused["phase"], refused["reason"]) == ("refused", "round_id_used")

    desk.start(start("r-0"))
    again = desk.heard("fl/rounds/r-0/status")[-1]
    assert again["phase"] == "complete"
    assert "pruned" in again["detail"]
    assert again["start_sha256"] == RoundStart.decode(json.dumps(start("r-0")).encode()).digest()

    desk.start(b'{"round_id": "r-0"}')
    desk.update(update("b", "r-0"))
    assert desk.heard("fl/rounds/r-0/acks/b")[-1]["reason"] == "round_closed"
    assert not any(message.retain for message in desk.published[published:])
    assert rounds(desk) == ["r-2"]


def test_a_round_is_never_pruned_by_the_transaction_that_ends_it() -> None:
    desk = pruning_desk(1)
    desk.start(*(start(f"r-{n}", k_of_n=3, min_updates=2, timeout_s=1) for n in range(3)))
    desk.now_s += 1.0
    desk.update(update("a", "r-0"))  # accepted, and then it is too late for another
    assert desk.heard("fl/rounds/r-0/acks/a")[-1]["status"] == "accepted"
    assert len(rounds(desk)) == 3
    assert [line.proplet_id for line in desk.store.story("r-0")] == ["a"]
    desk.run_until(lambda: at_rest(desk))
    assert rounds(desk) == ["r-2"]


def test_a_status_that_is_due_does_not_bring_a_pruned_round_back() -> None:
    desk = pruning_desk(1)
    desk.run_round("r-0")
    desk.start(start("r-0"), start("r-1"))
    desk.send(
        ("fml/updates", update("a", "r-1")),
        ("fl/rounds/start", start("r-0")),
    )
    desk.run_until(lambda: at_rest(desk))
    assert not any("r-0" in topic for topic in desk.retained)


def test_models_go_but_not_the_newest_nor_those_that_open_rounds_are_based_on() -> None:
    desk = pruning_desk(2)
    uri = "fl/models/global_model_v1"
    desk.run_round("r-0")
    desk.start(start("open", model_uri=uri))
    for number in range(1, 5):
        desk.run_round(f"r-{number}")
    desk.run_until(lambda: at_rest(desk))
    versions = [v for (v,) in desk.database.execute("SELECT version FROM models ORDER BY version")]
    assert versions == [1, 4, 5]
    desk.update(update("a", "open", base_model_uri=uri))
    assert desk.heard("fl/rounds/open/complete")[-1]["model_version"] == 6
    desk.run_until(lambda: at_rest(desk))
    versions = [v for (v,) in desk.database.execute("SELECT version FROM models ORDER BY version")]
    assert versions == [5, 6]


def test_an_old_model_is_taken_from_the_broker_when_a_round_wants_it() -> None:
    desk = pruning_desk(1)
    for number in range(3):
        desk.run_round(f"r-{number}", model_uri=f"fl/models/global_model_v{number}")
    desk.run_until(lambda: at_rest(desk))
    desk.model(0)  # retained, it comes with every connection
    assert desk.store.model("fl/models/global_model_v0") is None
    desk.start(start("late"))
    desk.model(0)
    assert desk.heard("fl/rounds/late/status")[-1]["phase"] == "open"
    desk.update(update("a", "late"))
    assert desk.heard("fl/rounds/late/complete")[-1]["model_version"] == 4


def test_a_round_larger_than_a_step_goes_in_several_and_is_unknown_from_the_first() -> None:
    desk = pruning_desk(1)
    names = [f"p{i}" for i in range(400)]
    desk.start(start("large", participants=names, k_of_n=400))
    desk.update(*(update(name, "large") for name in names))
    desk.run_round("r-1")
    desk.send()
    assert desk.store.load_round("large") is None
    assert 0 < desk.count("updates") < 400
    desk.run_until(lambda: at_rest(desk))
    assert rounds(desk) == ["r-1"]
    assert desk.count("updates") == 1


def test_nothing_is_pruned_faster_than_the_broker_takes_what_it_costs() -> None:
    desk = pruning_desk(0)
    desk.start(*(start(f"r-{number}", timeout_s=1) for number in range(300)))
    desk.now_s += 1.0
    desk.send()
    desk.config = load(flags={"coordinator.keep_rounds": 1}).coordinator
    desk.restart()
    for _ in range(100):  # the broker is away
        desk.now_s += 1.0
        desk.engine.handle([], desk.now_s)
    assert len(rounds(desk)) == 300
    assert desk.count("outbox") == 600, "their completions, and no more"
    desk.run_until(lambda: at_rest(desk) and not desk.count("outbox"))
    assert len(rounds(desk)) == 1


@pytest.mark.timeout(300)  # it takes some seconds, where the disk has nothing else to do
def test_a_hundred_thousand_stale_rounds_are_pruned_while_rounds_run(tmp_path: Path) -> None:
    path = tmp_path / "rounds.db"
    RoundStore(path).close()
    stale = 100_000
    document = start("r-000000")
    with sqlite3.connect(path) as database:
        fill(database, stale, RoundStart.decode(json.dumps(document).encode()))
    database.close()

    store = RoundStore(path)
    desk = Desk(keep_rounds=100, store=store)
    turns = 0
    while turns < 20_000:
        turns += 1
        if turns % 100 == 1:  # a round, from its start to its end, among the work of pruning
            round_id = f"new-{turns}"
            desk.run_round(round_id, model_uri=f"fl/models/global_model_v{stale}")
            [complete] = desk.heard(f"fl/rounds/{round_id}/complete")
            assert complete["model_version"] == stale + 1 + turns // 100
        if desk.engine.due_in_s(desk.now_s) > 1.0:
            break
        desk.send()
    assert len(store.list_rounds(1000)) == 100
    known = store.known_round("r-000042")
    assert known is not None
    assert known.pruned
    desk.start(document | {"k_of_n": 2})
    assert desk.heard("fl/rounds/r-000000/status")[-1]["reason"] == "round_id_used"
    store.close()
    assert "100 rounds" in check_rounds(path)


def fill(database: sqlite3.Connection, count: int, first: RoundStart) -> None:
    """Rounds that ended long ago, each with an update and a model."""
    text, vector = first.encode().decode(), b"\0" * 16
    names = [f"r-{i:06}" for i in range(count)]
    database.executemany(
        "INSERT INTO rounds VALUES (?, ?, '{\"w\": [3], \"b\": []}', ?, 'complete', 'complete', '',"
        " NULL, ?, '', 0)",
        ((name, text.replace("r-000000", name), float(i), i + 1) for i, name in enumerate(names)),
    )
    database.executemany(
        "INSERT INTO updates VALUES (?, 'a', '', 1, 100, '{}', ?, 0.0)",
        ((name, vector) for name in names),
    )
    body = b'{"w":[0.0,0.0,0.0],"b":0.0}'
    sha256 = hashlib.sha256(body).hexdigest()
    database.executemany(
        "INSERT INTO models VALUES (?, ?, ?, ?, ?)",
        (
            (f"fl/models/global_model_v{i}", i, sha256, body, name)
            for i, name in enumerate(names, start=1)
        ),
    )


def test_fewer_rounds_than_none_are_not_kept() -> None:
    with pytest.raises(ConfigError, match="keep_rounds"):
        load(flags={"coordinator.keep_rounds": -1})
