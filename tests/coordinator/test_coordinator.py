"""The coordinator on a real broker; the test plays manager, proplets, model server and operator."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator import Coordinator
from propeller_fl.link import Link, LinkLimits, LinkLoop
from propeller_fl.store import RoundStore
from propeller_fl.wire import Format, Topics, encode_document
from tests.support.brokers import RunningBroker
from tests.support.peers import Peer, peer_at
from tests.support.wait import wait_until

V0 = {"w": [0.0, 0.0, 0.0], "b": 0.0, "version": 0}
CONFIG = CoordinatorConfig(model_grace_s=0.3, max_update_bytes=2_000)


@contextlib.contextmanager
def coordinator(
    broker: RunningBroker,
    directory: Path,
    prefix: str = "",
    config: CoordinatorConfig = CONFIG,
    limits: LinkLimits | None = None,
) -> Iterator[Coordinator]:
    store = RoundStore(directory / "rounds.db")
    with LinkLoop() as loop:
        link = Link(loop, broker.address, "coordinator", limits=limits or LinkLimits())
        service = Coordinator(link, Topics(prefix), config, store)
        service.start()
        link.wait_connected(10)
        try:
            yield service
        finally:
            service.stop()
            link.close()
            store.close()


@pytest.fixture
def peer(broker: RunningBroker) -> Iterator[Peer]:
    with peer_at(broker.address) as peer:
        peer.publish("fl/models/global_model_v0", V0, retain=True)
        yield peer


def start(round_id: str = "r-1", **changes: Any) -> dict[str, Any]:
    return {
        "round_id": round_id,
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": "builtin:linear",
        "participants": ["proplet-1", "proplet-2", "proplet-3"],
        "hyperparams": {"epochs": 1, "lr": 0.01, "batch_size": 16},
        "k_of_n": 3,
        "timeout_s": 60,
    } | changes


def update(
    proplet_id: str, value: float = 1.0, samples: int = 10, **changes: Any
) -> dict[str, Any]:
    return {
        "round_id": "r-1",
        "proplet_id": proplet_id,
        "base_model_uri": "fl/models/global_model_v0",
        "num_samples": samples,
        "metrics": {"loss": value},
        "update": {"w": [value, 2 * value, 3 * value], "b": -value},
    } | changes


def open_round(peer: Peer, **changes: Any) -> None:
    message = start(**changes)
    peer.subscribe(f"fl/rounds/{message['round_id']}/+", "fl/models/publish")
    peer.subscribe(
        *(
            f"fl/rounds/{message['round_id']}/acks/{p}"
            for p in ("proplet-1", "proplet-2", "proplet-3", "stranger")
        )
    )
    peer.publish("fl/rounds/start", message)
    peer.wait_for(f"fl/rounds/{message['round_id']}/status", lambda s: s["phase"] == "open")


def acked(peer: Peer, proplet_id: str, status: str) -> Any:
    return peer.wait_for(f"fl/rounds/r-1/acks/{proplet_id}", lambda a: a["status"] == status)


def test_k_of_n_updates_make_the_sample_weighted_mean(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=2)
        peer.publish("fml/updates", update("proplet-1", 1.0, samples=10))
        peer.publish("fml/updates", update("proplet-3", 4.0, samples=30))
        complete = peer.wait_for("fl/rounds/r-1/complete")
        model = peer.wait_for("fl/models/publish")
    mean = np.average([1.0, 4.0], weights=[10, 30])
    assert model == {"w": [mean, 2 * mean, 3 * mean], "b": -mean, "version": 1}
    assert complete["status"] == "complete"
    assert complete["model_version"] == 1
    assert complete["model_topic"] == "fl/models/global_model_v1"
    assert (complete["num_updates"], complete["total_samples"]) == (2, 40)
    assert complete["metrics"] == {"loss": mean}
    assert complete["missing"] == ["proplet-2"]
    assert complete["sha256"] == hashlib.sha256(peer.heard("fl/models/publish")[0]).hexdigest()


def test_the_deadline_with_some_updates_makes_a_model(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, timeout_s=1.5)
        peer.publish("fml/updates", update("proplet-2", 2.0))
        complete = peer.wait_for("fl/rounds/r-1/complete")
        model = peer.wait_for("fl/models/publish")
    assert complete["status"] == "timeout"
    assert complete["missing"] == ["proplet-1", "proplet-3"]
    assert model["w"] == [2.0, 4.0, 6.0]


def test_the_deadline_with_too_few_updates_keeps_the_old_model(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, timeout_s=1, min_updates=2)
        peer.publish("fml/updates", update("proplet-2", 2.0))
        complete = peer.wait_for("fl/rounds/r-1/complete")
        status = peer.wait_for("fl/rounds/r-1/status", lambda s: s["phase"] == "failed")
    assert complete["status"] == "failed"
    assert complete["model_topic"] == "fl/models/global_model_v0"
    assert complete["detail"] == status["detail"] == "1 of at least 2 updates at the deadline"
    assert peer.heard("fl/models/publish") == []


def test_a_round_is_stopped_also_by_what_is_asked_while_the_coordinator_is_down(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    why = "stopped by operator: the data are wrong"
    stops = {
        round_id: {"round_id": round_id, "reason": "the data are wrong"}
        for round_id in ("r-1", "r-2")
    }
    with coordinator(broker, tmp_path):
        for round_id in stops:
            open_round(peer, round_id=round_id)
        peer.publish("fml/updates", update("proplet-1"))
        acked(peer, "proplet-1", "accepted")
        peer.publish("fl/rounds/r-1/stop", stops["r-1"])
        complete = peer.wait_for("fl/rounds/r-1/complete")
    peer.publish("fl/rounds/r-2/stop", stops["r-2"])
    with coordinator(broker, tmp_path):
        later = peer.wait_for("fl/rounds/r-2/complete", timeout_s=30)
        peer.publish("fml/updates", update("proplet-2"))
        refused = acked(peer, "proplet-2", "refused")
    assert (complete["status"], complete["detail"], complete["num_updates"]) == ("failed", why, 1)
    assert complete["model_topic"] == "fl/models/global_model_v0"
    assert (later["status"], later["detail"]) == ("failed", why)
    assert refused["reason"] == "round_closed"
    assert peer.heard("fl/models/publish") == []


def test_tasks_that_have_failed_end_a_round_also_if_that_was_said_while_it_was_down(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    report = {"round_id": "r-1", "launched": [], "failed": {"proplet-2": "trap"}}
    with coordinator(broker, tmp_path):
        open_round(peer, min_updates=2)
        peer.publish("fl/rounds/r-1/launch", report, retain=True)
        peer.publish("fml/updates", update("proplet-1"))
        acked(peer, "proplet-1", "accepted")
    report["failed"] = {"proplet-2": "trap", "proplet-3": "\ud800"}
    for said in (report, report | {"round_id": "r-2"}, report | {"failed": 7}):
        peer.publish("fl/rounds/r-2/launch", said, retain=True)
    peer.publish("fl/rounds/r-1/launch", report, retain=True)
    with coordinator(broker, tmp_path):
        complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=30)
    assert (complete["status"], complete["num_updates"]) == ("failed", 1)
    assert complete["detail"] == "2 of 3 tasks have failed, that of proplet-2: trap"


REFUSED = {
    "not_participant": update("stranger"),
    "stale_base_model": update("proplet-1", base_model_uri="fl/models/global_model_v7"),
    "missing_tensor": update("proplet-1", update={"w": [1, 2, 3]}),
    "extra_tensor": update("proplet-1", update={"w": [1, 2, 3], "b": 1, "c": 1}),
    "wrong_shape": update("proplet-1", update={"w": [1, 2], "b": 1}),
    "not_finite": update("proplet-1", value=float("nan")),
    "bad_num_samples": update("proplet-1", samples=0),
    "bad_field": update("proplet-1", update={"w": [1, [2], 3], "b": 1}),
    "missing_field": update("proplet-1", base_model_uri=None),
    "too_large": update("proplet-1", metrics={f"m{i}": 0.0 for i in range(500)}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_bad_update_is_refused_with_its_reason_and_spoils_nothing(
    broker: RunningBroker, peer: Peer, tmp_path: Path, reason: str
) -> None:
    bad = REFUSED[reason]
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=1)
        peer.publish("fml/updates", bad)
        assert acked(peer, bad["proplet_id"], "refused")["reason"] == reason
        peer.publish("fml/updates", update("proplet-2", 3.0))
        complete = peer.wait_for("fl/rounds/r-1/complete")
    assert complete["refused"] == {reason: 1}
    assert complete["num_updates"] == 1


def test_updates_of_nobody_are_dropped_and_the_round_goes_on(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=1)
        for junk in (b"", b"{", b"\xbf", b"[]", b"[" * 100_000, b'{"round_id": 5}'):
            peer.publish("fml/updates", junk)
        peer.publish("fml/updates", update("proplet-2"))
        assert peer.wait_for("fl/rounds/r-1/complete")["refused"] == {}


def test_the_first_update_stands_and_the_same_bytes_are_only_acknowledged(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=2)
        first = update("proplet-1", 1.0)
        peer.publish("fml/updates", first)
        acked(peer, "proplet-1", "accepted")
        peer.publish("fml/updates", first)
        wait_until(
            lambda: len(peer.heard("fl/rounds/r-1/acks/proplet-1")) == 2, 10, "a second answer"
        )
        peer.publish("fml/updates", update("proplet-1", 5.0))
        assert acked(peer, "proplet-1", "refused")["reason"] == "duplicate"
        peer.publish("fml/updates", update("proplet-2", 1.0))
        complete = peer.wait_for("fl/rounds/r-1/complete")
        assert peer.wait_for("fl/models/publish")["w"] == [1.0, 2.0, 3.0]
        assert complete["num_updates"] == 2

        peer.publish("fml/updates", first)  # its answer was lost, say
        wait_until(
            lambda: len(peer.heard("fl/rounds/r-1/acks/proplet-1")) == 4, 10, "a fourth answer"
        )
        last = json.loads(peer.heard("fl/rounds/r-1/acks/proplet-1")[-1])
        assert last["status"] == "accepted"
        peer.publish("fml/updates", update("proplet-3"))
        assert acked(peer, "proplet-3", "refused")["reason"] == "round_closed"


def test_an_update_for_no_round_is_refused(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    peer.subscribe("fl/rounds/r-1/acks/proplet-1")
    with coordinator(broker, tmp_path):
        peer.publish("fml/updates", update("proplet-1"))
        assert acked(peer, "proplet-1", "refused")["reason"] == "unknown_round"


def test_a_restart_keeps_the_round_its_updates_and_its_deadline(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=2)
        deadline = peer.wait_for("fl/rounds/r-1/status")["deadline_at_s"]
        peer.publish("fml/updates", update("proplet-1", 1.0))
        acked(peer, "proplet-1", "accepted")
    peer.publish("fml/updates", update("proplet-2", 3.0))  # while it is away
    with coordinator(broker, tmp_path):
        assert peer.wait_for("fl/rounds/r-1/complete")["num_updates"] == 2
        assert peer.wait_for("fl/models/publish")["w"] == [2.0, 4.0, 6.0]
        statuses = [json.loads(s) for s in peer.heard("fl/rounds/r-1/status")]
        assert {s["deadline_at_s"] for s in statuses} == {deadline}
    with coordinator(broker, tmp_path):  # nothing happens twice
        open_round(peer, round_id="r-2", k_of_n=1)
        peer.publish("fml/updates", update("proplet-1", round_id="r-2"))
        assert peer.wait_for("fl/rounds/r-2/complete")["model_version"] == 2


def test_versions_go_on_from_the_highest_that_was_ever_published(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    peer.publish("fl/models/global_model_v7", V0 | {"version": 7}, retain=True)
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=1, model_uri="fl/models/global_model_v7")
        peer.publish("fml/updates", update("proplet-1", base_model_uri="fl/models/global_model_v7"))
        assert peer.wait_for("fl/rounds/r-1/complete")["model_version"] == 8


BAD_STARTS: dict[str, dict[str, Any]] = {
    "unknown_model": {"model_uri": "fl/models/global_model_v9"},
    "missing_field": {"hyperparams": None},
    "bad_field": {"k_of_n": 4},
    "bad_id": {"participants": ["a/b"]},
}


@pytest.mark.parametrize("reason", BAD_STARTS)
def test_a_bad_start_is_refused_with_its_reason(
    broker: RunningBroker, peer: Peer, tmp_path: Path, reason: str
) -> None:
    peer.subscribe("fl/rounds/r-1/+")
    with coordinator(broker, tmp_path):
        peer.publish("fl/rounds/start", start(**BAD_STARTS[reason]))
        status = peer.wait_for("fl/rounds/r-1/status")
    assert (status["phase"], status["reason"]) == ("refused", reason)
    assert status["detail"]


def test_the_same_start_twice_does_nothing_and_another_under_its_id_is_refused(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer)
        peer.publish("fl/rounds/start", start())
        peer.publish("fl/rounds/start", start(k_of_n=1))
        status = peer.wait_for("fl/rounds/r-1/status", lambda s: s["phase"] == "refused")
        assert status["reason"] == "round_id_used"
        peer.publish("fml/updates", update("proplet-1"))
        acked(peer, "proplet-1", "accepted")
    with peer_at(broker.address) as onlooker:  # the retained status is still the round's own
        onlooker.subscribe("fl/rounds/r-1/status")
        assert onlooker.wait_for("fl/rounds/r-1/status")["k_of_n"] == 3


def test_a_round_that_evaluates_averages_metrics_and_makes_no_model(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    with coordinator(broker, tmp_path):
        open_round(peer, k_of_n=2, mode="evaluate")
        peer.publish("fml/updates", update("proplet-3"))
        assert acked(peer, "proplet-3", "refused")["reason"] == "extra_tensor"
        for proplet, loss, samples in (("proplet-1", 1.0, 30), ("proplet-2", 5.0, 10)):
            message = update(proplet, samples=samples, metrics={"loss": loss}, update={})
            peer.publish("fml/updates", message)
        complete = peer.wait_for("fl/rounds/r-1/complete")
    assert complete["metrics"] == {"loss": 2.0}
    assert complete["model_topic"] == "fl/models/global_model_v0"
    assert peer.heard("fl/models/publish") == []


def test_a_prefix_goes_before_every_topic(broker: RunningBroker, tmp_path: Path) -> None:
    prefix = "m/tenant/c/channel"
    with peer_at(broker.address) as peer, coordinator(broker, tmp_path, prefix):
        peer.subscribe(f"{prefix}/fl/rounds/r-1/+")
        peer.publish(f"{prefix}/fl/models/global_model_v0", V0, retain=True)
        peer.publish(f"{prefix}/fl/rounds/start", start(k_of_n=1))
        peer.wait_for(f"{prefix}/fl/rounds/r-1/status")
        peer.publish(f"{prefix}/fml/updates", update("proplet-1"))
        complete = peer.wait_for(f"{prefix}/fl/rounds/r-1/complete")
    assert complete["model_topic"] == "fl/models/global_model_v1"


FULL = """CREATE TRIGGER full BEFORE INSERT ON {table} BEGIN SELECT RAISE(FAIL, 'disk full'); END"""


@pytest.mark.parametrize("table", ["rounds", "updates", "outbox"])
def test_a_store_that_fails_for_a_while_loses_nothing(
    broker: RunningBroker, peer: Peer, tmp_path: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "propeller_fl")

    def logged(text: str) -> int:
        return sum(text in record.getMessage() for record in caplog.records)

    with coordinator(broker, tmp_path):
        outside = sqlite3.connect(tmp_path / "rounds.db", timeout=10)
        outside.execute(FULL.format(table=table))
        peer.subscribe("fl/rounds/r-1/complete", "fl/models/publish")
        peer.publish("fl/rounds/start", start(k_of_n=2))
        # nats-server keeps no order between topics, and an update must not come before its round
        came = "the store failed" if table == "rounds" else "round opened"
        wait_until(lambda: logged(came), 30, "the start has come")
        peer.publish("fml/updates", update("proplet-1", 1.0))
        peer.publish("fml/updates", update("proplet-2", 3.0))
        wait_until(lambda: logged("the store failed"), 30, "the store has failed")
        assert peer.heard("fl/rounds/r-1/complete") == []
        outside.execute("DROP TRIGGER full")
        outside.close()
        complete = peer.wait_for("fl/rounds/r-1/complete")
    assert (complete["num_updates"], complete["refused"]) == (2, {})
    assert peer.wait_for("fl/models/publish")["w"] == [2.0, 4.0, 6.0]
    assert logged("the store works again")


def test_a_message_that_no_link_takes_is_logged_and_keeps_nothing_back(
    broker: RunningBroker, peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = LinkLimits(max_payload_bytes=1_000)
    absent = [f"absent-{number:050}" for number in range(20)]  # a completion names them all
    with coordinator(broker, tmp_path, limits=limits) as service:
        open_round(peer, k_of_n=1, participants=["proplet-1", *absent])
        peer.publish("fml/updates", update("proplet-1"))
        peer.wait_for("fl/models/publish")
        peer.wait_for("fl/rounds/r-1/status", lambda s: s["phase"] == "complete")
        assert service.failure is None
    assert peer.heard("fl/rounds/r-1/complete") == []
    assert any("never published" in record.getMessage() for record in caplog.records)
    with coordinator(broker, tmp_path):  # it is owed still
        assert peer.wait_for("fl/rounds/r-1/complete")["model_version"] == 1


def test_what_is_retained_of_a_pruned_round_is_cleared_on_the_broker(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    config = replace(CONFIG, keep_rounds=1)
    with coordinator(broker, tmp_path, config=config):
        for round_id in ("r-1", "r-2"):
            open_round(peer, round_id=round_id, k_of_n=1)
            peer.publish("fml/updates", update("proplet-1", round_id=round_id))
            peer.wait_for(f"fl/rounds/{round_id}/complete")
        wait_until(lambda: peer.heard("fl/rounds/r-1/status")[-1] == b"", 15, "r-1 is cleared")
        assert peer.heard("fl/rounds/r-1/complete")[-1] == b""
    with peer_at(broker.address) as onlooker:
        onlooker.subscribe("fl/rounds/+/complete")
        assert onlooker.wait_for("fl/rounds/r-2/complete")["model_version"] == 2
        assert onlooker.heard("fl/rounds/r-1/complete") == []


def test_a_model_the_broker_would_not_take_fails_the_round_and_says_what_to_do(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    config = replace(CONFIG, max_model_bytes=40)
    with coordinator(broker, tmp_path, config=config):
        open_round(peer, k_of_n=1)
        peer.publish("fml/updates", update("proplet-1", 1 / 3))
        complete = peer.wait_for("fl/rounds/r-1/complete")
    assert complete["status"] == "failed"
    assert "coordinator.model_format" in complete["detail"]
    assert complete["model_topic"] == "fl/models/global_model_v0"


def test_once_nothing_arrives_what_is_in_the_log_goes_into_the_database(
    broker: RunningBroker, peer: Peer, tmp_path: Path
) -> None:
    uri, wide = "fl/models/wide", np.zeros(600_000, np.float32)
    peer.publish(uri, encode_document({"w": wide, "version": 0}, Format.CBOR), retain=True)
    config = replace(CONFIG, max_update_bytes=4_000_000)

    def rows_without_the_log() -> int:
        alone = tmp_path / "alone.db"
        shutil.copy(tmp_path / "rounds.db", alone)
        try:
            with contextlib.closing(sqlite3.connect(alone)) as db:
                count: int = db.execute("SELECT count(*) FROM updates").fetchone()[0]
        except sqlite3.DatabaseError:  # copied while it was being written
            return -1
        return count

    with coordinator(broker, tmp_path, config=config):
        open_round(peer, model_uri=uri)
        for proplet_id in ("proplet-1", "proplet-2"):
            told = update(proplet_id, base_model_uri=uri, update={"w": wide})
            peer.publish("fml/updates", encode_document(told, Format.CBOR))
            acked(peer, proplet_id, "accepted")
        wait_until(lambda: rows_without_the_log() == 2, 30, "both are in the database itself")
