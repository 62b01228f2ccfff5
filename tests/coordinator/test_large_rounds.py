"""Rounds whose updates are files: what the engine wants done, and what it says when."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import pytest

from propeller_fl.config import LargeConfig
from propeller_fl.coordinator import (
    Collect,
    Discard,
    DropModel,
    Engine,
    MakeModel,
    ServeModel,
)
from propeller_fl.wire import Manifest, Topics, UpdateManifest, model_uri

from .engine_desk import BASE, Desk, start

T = TypeVar("T")
SIZE = 4 * 3_000_000 + 96
PARTS = tuple(f"{n:064x}" for n in range(-(-SIZE // 196_608)))
FILE = Manifest(0, SIZE, "f" * 64, 196_608, PARTS, {"w": (3_000_000,)})


class LargeDesk(Desk):
    """With somebody who does the work with files: the test."""

    def restart(self) -> None:
        self.engine = Engine(Topics(), self.config, self.store, LargeConfig())
        self.engine.resume(self.now_s)
        self._after = 0
        self.said.clear()

    def wanted(self, kind: type[T]) -> list[T]:
        return [one for one in self.said if isinstance(one, kind)]


@pytest.fixture
def desk() -> LargeDesk:
    desk = LargeDesk()
    desk.send((BASE, FILE.encode()))
    return desk


def offer(proplet_id: str) -> bytes:
    manifest = UpdateManifest("r-1", proplet_id, BASE, 10, {"loss": 1.0}, FILE)
    return manifest.encode()


def collected(desk: LargeDesk, reason: str = "") -> None:
    """The file that was asked for last is here, or refused."""
    collect = desk.wanted(Collect)[-1]
    key = collect.update.round_id, collect.update.proplet_id
    desk.engine.file_ended(*key, collect.sha256, reason, "")
    desk.send()


def acks(desk: LargeDesk, proplet_id: str) -> list[tuple[str, str]]:
    heard = desk.heard(f"fl/rounds/r-1/acks/{proplet_id}")
    return [(ack["status"], ack["reason"]) for ack in heard]


def test_a_round_of_files_from_start_to_end(desk: LargeDesk) -> None:
    desk.start(start())
    desk.update(offer("a"))
    assert [c.update.proplet_id for c in desk.wanted(Collect)] == ["a"]
    assert acks(desk, "a") == []
    desk.restart()
    desk.send()
    assert [c.update.proplet_id for c in desk.wanted(Collect)] == ["a"]  # a killed one goes on
    collected(desk)
    assert acks(desk, "a") == [("accepted", "")]
    desk.restart()
    desk.send()
    [make] = desk.wanted(MakeModel)
    assert list(make.round.accepted) == ["a"]
    desk.engine.model_ended("r-1", FILE, "")
    desk.send()
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["status"], complete["model_version"]) == ("complete", 1)
    [published] = [p.payload for p in desk.published if p.topic == "fl/models/publish"]
    model = Manifest.decode(published)
    assert model is not None
    assert (model.version, model.parts) == (1, FILE.parts)
    assert Discard("r-1") in desk.said
    assert [serve.round_id for serve in desk.wanted(ServeModel)] == ["r-1"]
    desk.restart()
    desk.send()
    assert [serve.round_id for serve in desk.wanted(ServeModel)] == ["r-1"]  # until it is heard of
    desk.send((model_uri(1), published))
    assert desk.wanted(DropModel) == [DropModel("r-1")]
    assert desk.count("update_files") == desk.count("model_files") == 0


def test_a_file_that_is_refused_is_discarded_and_recorded(desk: LargeDesk) -> None:
    desk.start(start(k_of_n=2))
    desk.update(offer("a"))
    collected(desk, "not_finite")
    assert acks(desk, "a") == [("refused", "not_finite")]
    assert desk.wanted(Discard) == [Discard("r-1", "a")]
    assert desk.count("update_files") == 0


def test_what_is_not_whole_at_the_deadline_is_refused(desk: LargeDesk) -> None:
    desk.start(start(k_of_n=2))
    desk.update(offer("a"), offer("b"))
    desk.now_s += 61
    desk.send()
    assert acks(desk, "a") == acks(desk, "b") == [("refused", "incomplete")]
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["status"], complete["refused"]) == ("failed", {"incomplete": 2})
    assert Discard("r-1") in desk.said


def test_no_model_of_the_files_fails_the_round(desk: LargeDesk) -> None:
    desk.start(start())
    desk.update(offer("a"))
    collected(desk)
    desk.engine.model_ended("r-1", None, "parameters of the new model are not finite")
    desk.send()
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["status"], complete["model_version"]) == ("failed", 0)
    assert "not finite" in complete["detail"]


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"strategy": "krum", "k_of_n": 3, "strategy_args": {"f": 0}}, "bad_field", "krum"),
        ({"strategy": "fedadam"}, "bad_field", "fedadam"),
        ({"participants": [f"p-{n}" for n in range(300)], "k_of_n": 300}, "bad_field", "256"),
    ],
)
def test_what_cannot_be_done_with_files_is_refused_at_the_start(
    desk: LargeDesk, changes: dict[str, Any], reason: str, says: str
) -> None:
    desk.start(start(**changes))
    [status] = [json.loads(desk.retained["fl/rounds/r-1/status"])]
    assert (status["phase"], status["reason"]) == ("refused", reason)
    assert says in status["detail"]


def test_more_than_there_is_room_for_is_refused_at_the_start(desk: LargeDesk) -> None:
    limit = LargeConfig(max_updates_bytes=5 * SIZE)
    desk.engine = Engine(Topics(), desk.config, desk.store, limit)
    desk.start(start("r-1", k_of_n=3))
    desk.start(start("r-2", k_of_n=3))
    assert json.loads(desk.retained["fl/rounds/r-1/status"])["phase"] == "open"
    refused = json.loads(desk.retained["fl/rounds/r-2/status"])
    assert (refused["phase"], refused["reason"]) == ("refused", "too_large")


def test_without_a_place_for_files_none_is_trained() -> None:
    desk = Desk()
    desk.send((BASE, FILE.encode()))
    desk.start(start())
    assert json.loads(desk.retained["fl/rounds/r-1/status"])["reason"] == "too_large"


@pytest.mark.parametrize("killed", [False, True])
def test_a_round_that_is_stopped_leaves_no_file(desk: LargeDesk, killed: bool) -> None:
    stop = ("fl/rounds/r-1/stop", {"round_id": "r-1"})
    desk.start(start(k_of_n=2))
    desk.update(offer("a"), offer("b"))
    collected(desk)
    desk.send(stop)
    if killed:
        desk.restart()
        desk.send(stop)
        assert desk.wanted(Collect) == []
    else:
        assert acks(desk, "a") == [("refused", "round_closed")]
        assert Discard("r-1") in desk.said
    [complete] = desk.heard("fl/rounds/r-1/complete")[:1]
    assert (complete["status"], complete["num_updates"]) == ("failed", 1)
    assert desk.count("update_files") == desk.count("model_files") == 0


def test_a_round_that_is_stopped_while_its_model_is_made_has_none(desk: LargeDesk) -> None:
    desk.start(start())
    desk.update(offer("a"))
    collected(desk)
    assert desk.wanted(MakeModel)
    desk.send(("fl/rounds/r-1/stop", {"round_id": "r-1"}))
    assert DropModel("r-1") in desk.said
    desk.engine.model_ended("r-1", FILE, "")  # its maker had not heard
    desk.send()
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["status"], complete["model_version"]) == ("failed", 0)
    assert desk.heard("fl/models/publish") == []
    assert desk.wanted(ServeModel) == []
    desk.start(start("r-2"))  # the next one is none the worse for it
    desk.update(offer("a").replace(b"r-1", b"r-2"))
    collected(desk)
    desk.engine.model_ended("r-2", FILE, "")
    desk.send()
    assert desk.heard("fl/rounds/r-2/complete")[0]["model_version"] == 1
