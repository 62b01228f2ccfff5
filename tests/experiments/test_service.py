"""Experiments with real services on a real broker; in some of them the test plays the proplets."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from tests.support.peers import Peer, peer_at
from tests.support.rounds import PROPLETS, update_message
from tests.support.services import Service
from tests.support.wait import wait_until

PATIENCE_S = 90


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All but proplets and experiments."""
    directory = tmp_path_factory.mktemp("services")
    flags = {
        "data_dir": str(directory),
        "broker.port": 0,
        "model_server.models_dir": str(directory / "models"),
        "model_server.http_port": 0,
        "manager.liveness_timeout_s": 30,
    }
    with Deployment(config.load(environ={}, flags=flags), Role.BROKER | Role.SERVICES) as running:
        yield running


@pytest.fixture
def peer(deployment: Deployment) -> Iterator[Peer]:
    with peer_at(deployment.address) as peer:
        peer.subscribe("fl/rounds/start", "fl/experiments/+/status", "fl/models/+")
        peer.wait_for("fl/models/global_model_v0", timeout_s=PATIENCE_S)
        yield peer


@pytest.fixture
def service(deployment: Deployment, tmp_path: Path) -> Iterator[Service]:
    service = Service(
        tmp_path,
        deployment.address,
        "experiment",
        "serve",
        settings=["manager.liveness_timeout_s=3", "proplet.heartbeat_s=1"],
    )
    service.start()
    service.wait_ready()
    yield service
    service.stop()


def ask(peer: Peer, experiment_id: str, rounds: int = 2, **changes: Any) -> None:
    """For an experiment whose proplets the test plays."""
    message = {
        "experiment_id": experiment_id,
        "task_wasm_image": "builtin:linear",
        "participants": {"ids": list(PROPLETS)},
        "hyperparams": {"lr": 0.1},
        "timeout_s": 600,
        "stop": {"rounds": rounds},
    }
    peer.publish("fl/experiments/start", message | changes)


def wait_status(peer: Peer, experiment_id: str, **wanted: Any) -> Any:
    return peer.wait_for(
        f"fl/experiments/{experiment_id}/status",
        lambda status: all(status[name] == value for name, value in wanted.items()),
        timeout_s=PATIENCE_S,
    )


def starts(peer: Peer, prefix: str) -> list[dict[str, Any]]:
    """The rounds that were asked for, each once however often it was."""
    found = {payload: json.loads(payload) for payload in peer.heard("fl/rounds/start")}
    return [start for start in found.values() if start["round_id"].startswith(prefix)]


def wait_start(peer: Peer, round_id: str) -> dict[str, Any]:
    found: dict[str, Any] = peer.wait_for(
        "fl/rounds/start", lambda start: start["round_id"] == round_id, timeout_s=PATIENCE_S
    )
    return found


def answer(peer: Peer, round_id: str) -> None:
    """All its proplets answer, once the round is open; until it has ended."""
    start = wait_start(peer, round_id)
    peer.subscribe(f"fl/rounds/{round_id}/status", f"fl/rounds/{round_id}/complete")
    status = f"fl/rounds/{round_id}/status"
    peer.wait_for(status, lambda said: said["phase"] == "open", timeout_s=PATIENCE_S)
    for name in start["participants"]:
        update = update_message(name, round_id=round_id, base_model_uri=start["model_uri"])
        if start["mode"] == "evaluate":
            update["update"] = {}
        peer.publish(f"fl/rounds/{round_id}/updates/{name}", update)
    peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=PATIENCE_S)


def test_a_killed_service_goes_on_and_runs_no_round_twice(peer: Peer, service: Service) -> None:
    ask(peer, "killed", rounds=3)
    peer.subscribe("fl/rounds/killed-r1/status")
    peer.wait_for(
        "fl/rounds/killed-r1/status", lambda said: said["phase"] == "open", timeout_s=PATIENCE_S
    )
    service.stop(signal.SIGKILL)
    answer(peer, "killed-r1")  # it ends while nobody waits for it

    service.start()
    wait_start(peer, "killed-r2")
    service.stop(signal.SIGKILL)  # perhaps before the coordinator has it
    service.start()
    answer(peer, "killed-r2")
    answer(peer, "killed-r3")
    ended = wait_status(peer, "killed", phase="complete")
    assert (ended["rounds"], ended["reason"]) == (3, "rounds")

    rounds = starts(peer, "killed-")
    assert [start["round_id"] for start in rounds] == [f"killed-r{n}" for n in (1, 2, 3)]
    for before, after in itertools.pairwise(rounds):
        peer.subscribe(f"fl/rounds/{before['round_id']}/complete")
        complete = peer.wait_for(f"fl/rounds/{before['round_id']}/complete", timeout_s=PATIENCE_S)
        assert after["model_uri"] == complete["model_topic"], "each trains what the last has made"


def test_pause_holds_the_next_round_and_stop_lets_the_one_under_way_count(
    peer: Peer, service: Service
) -> None:
    ask(peer, "paused", rounds=9)
    wait_start(peer, "paused-r1")
    command = "fl/experiments/paused/command"
    peer.publish(command, {"experiment_id": "paused", "command": "pause"})
    wait_status(peer, "paused", phase="paused")
    answer(peer, "paused-r1")
    wait_status(peer, "paused", phase="paused", rounds=1, round_id="")
    service.stop(signal.SIGKILL)
    service.start()  # still paused: the next round begins only now
    peer.publish(command, {"experiment_id": "paused", "command": "resume"})
    wait_start(peer, "paused-r2")
    peer.publish(command, {"experiment_id": "paused", "command": "stop"})
    wait_status(peer, "paused", phase="stopping")
    answer(peer, "paused-r2")
    ended = wait_status(peer, "paused", phase="stopped")
    assert (ended["rounds"], ended["round_id"]) == (2, "")
    assert len(starts(peer, "paused-")) == 2


def test_an_id_belongs_to_one_experiment(peer: Peer, service: Service) -> None:
    ask(peer, "mine")
    wait_status(peer, "mine", phase="running")
    ask(peer, "mine", rounds=5)
    refused = wait_status(peer, "mine", phase="refused")
    assert refused["reason"] == "experiment_id_used"
    ask(peer, "bad", stop={"rounds": 0})
    assert wait_status(peer, "bad", phase="refused")["reason"] == "bad_field"


def test_a_round_that_cannot_be_ends_the_experiment_with_its_reason(
    peer: Peer, service: Service
) -> None:
    ask(peer, "odd", strategy="no-such-strategy")
    failed = wait_status(peer, "odd", phase="failed")
    assert failed["reason"] == "unknown_strategy"
    assert "odd-r1" in failed["detail"]


def test_who_is_alive_is_asked_before_each_round(peer: Peer, service: Service) -> None:
    rule = {"tags": {"site": "north"}, "at_least": 2}
    for name, site in (("n-1", "north"), ("s-1", "south")):
        peer.publish("control/proplet/create", {"proplet_id": name, "metadata": {"site": site}})
    ask(peer, "chosen", participants=rule)

    def waits() -> bool:
        peer.publish("control/proplet/alive", {"proplet_id": "n-1", "status": "alive"})
        said = [json.loads(one) for one in peer.heard("fl/experiments/chosen/status")]
        return any("1 of at least 2" in status["detail"] for status in said)

    wait_until(waits, PATIENCE_S, "it waits for a second one")
    peer.publish("control/proplet/create", {"proplet_id": "n-2", "metadata": {"site": "north"}})

    def begins() -> bool:
        for name in ("n-1", "n-2", "s-1"):
            peer.publish("control/proplet/alive", {"proplet_id": name, "status": "alive"})
        return bool(starts(peer, "chosen-"))

    wait_until(begins, PATIENCE_S, "it begins with two")
    assert starts(peer, "chosen-")[0]["participants"] == ["n-1", "n-2"]
