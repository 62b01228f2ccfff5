"""Rounds, models and tasks over HTTP, as Propeller's demo has them, on a whole deployment."""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
import httpx
import pytest

from propeller_fl.deployment import Deployment
from propeller_fl.operator import Operator
from propeller_fl.wire import RoundComplete

from ..proplet.modules import SLEEPER
from ..proplet.test_generic import ADD
from ..support.peers import peer_at
from ..support.wait import wait_until
from .conftest import TOKEN, TOKENS

PATIENCE_S = 90.0
PROPLETS = ["proplet-1", "proplet-2", "proplet-3"]


def experiment(round_id: str, **more: Any) -> dict[str, Any]:
    """One whose participants are nobody's, so that its updates are what a test says they are."""
    return {
        "experiment_id": "e-1",
        "round_id": round_id,
        "model_ref": "fl/models/global_model_v0",
        "participants": ["hand-1", "hand-2"],
        "hyperparams": {"epochs": 1, "lr": 0.01},
        "k_of_n": 2,
        "timeout_s": 300,
        "task_wasm_image": "builtin:linear",
        **more,
    }


def update(round_id: str, proplet_id: str, value: float = 1.0) -> dict[str, Any]:
    return {
        "round_id": round_id,
        "proplet_id": proplet_id,
        "base_model_uri": "fl/models/global_model_v0",
        "num_samples": 4,
        "metrics": {"loss": 0.5},
        "update": {"w": [value, value, value], "b": value},
    }


def ended(http: httpx.Client, round_id: str) -> dict[str, Any]:
    def complete() -> dict[str, Any]:
        said: dict[str, Any] = http.get(f"/rounds/{round_id}/complete").json()
        return said if said["completed"] and "model_version" in said else {}

    return wait_until(complete, PATIENCE_S, f"round {round_id} has ended")


def test_a_round_by_hand_is_a_round_like_any_other(
    http: httpx.Client, deployment: Deployment
) -> None:
    made = http.post("/experiments", json=experiment("r-hand"))
    assert (made.status_code, made.json()) == (
        201,
        {"experiment_id": "e-1", "round_id": "r-hand", "status": "configured", "model_version": 0},
    )
    task = http.get("/task", params={"round_id": "r-hand", "proplet_id": "hand-1"}).json()["task"]
    assert task["model_ref"] == "fl/models/global_model_v0"
    assert task["hyperparams"] == {"epochs": 1, "lr": 0.01}

    first = http.post("/update", json=update("r-hand", "hand-1"))
    again = http.post("/update", json=update("r-hand", "hand-1"))
    assert [first.status_code, again.status_code] == [200, 200]
    assert first.json() == {"status": "accepted"}
    halfway = http.get("/rounds/r-hand/complete").json()
    assert (halfway["completed"], halfway["k_of_n"]) == (False, 2)
    second = http.post(
        "/update_cbor",
        content=cbor2.dumps(update("r-hand", "hand-2", 3.0)),
        headers={"content-type": "application/cbor"},
    )
    assert (second.status_code, second.json()) == (200, {"status": "accepted"})

    said = ended(http, "r-hand")
    assert (said["num_updates"], said["outcome"]) == (2, "complete")
    assert said["status"]["completed"] is True
    version = said["model_version"]
    model = http.get(f"/models/{version}").json()
    assert (model["w"], model["b"], model["version"]) == ([2.0, 2.0, 2.0], 2.0, version)
    assert version in http.get("/models").json()["versions"]
    following = http.get("/rounds/next").json()
    assert following["next_round_available"] is True
    with Operator(deployment.address, deployment.settings.topics) as operator:
        events = list(operator.watch("r-hand", PATIENCE_S))
    assert any(isinstance(event, RoundComplete) for event in events)


def test_a_round_with_proplets_goes_by_itself(http: httpx.Client) -> None:
    wanted = experiment("r-auto", participants=PROPLETS, k_of_n=0)
    made = http.post("/fl/experiments", json=wanted)
    assert made.status_code == 200, made.text

    assert ended(http, "r-auto")["num_updates"] == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("/experiments", {"participants": ["a"]}, 400, "round_id"),
        ("/experiments", experiment("r/1"), 400, "round_id"),
        ("/experiments", experiment("r-1", participants=[]), 400, "participants"),
        ("/experiments", experiment("r-1", model_ref="elsewhere"), 400, "model_uri"),
        ("/experiments", experiment("r-1", model_ref="fl/models/global_model_v999"), 409, ""),
        ("/update", update("r-none", "hand-1"), 409, "unknown_round"),
        ("/update", {"round_id": "r-1", "update": {}}, 400, "proplet_id"),
        ("/models", {"version": -1, "model": {}}, 400, "version"),
        ("/models", {"version": 77, "model": {"w": ["x"]}}, 400, "model.w"),
        ("/tasks", {"image_url": "builtin:linear"}, 400, "name"),
        ("/tasks", {"name": "add"}, 400, "image_url"),
        ("/tasks", {"name": "add", "file": "?"}, 400, "file"),
        ("/tasks", {"name": "x", "image_url": "a/b", "encrypted": True}, 400, "encrypted"),
    ],
)
def test_what_cannot_be_done_is_said(
    http: httpx.Client, path: str, body: dict[str, Any], status: int, where: str
) -> None:
    answer = http.post(path, json=body)

    assert answer.status_code == status, answer.text
    assert answer.json().get("where", "") == where
    assert answer.json()["error"]


def test_models_are_kept_and_never_replaced(http: httpx.Client) -> None:
    model = {"w": [1.0, 2.0, 3.0], "b": 0.5}

    assert http.post("/models", json={"version": 50, "model": model}).status_code == 201
    assert http.get("/models/50").json() == {**model, "version": 50}
    assert http.post("/models", json={"version": 50, "model": model}).status_code == 201
    other = http.post("/models", json={"version": 50, "model": {**model, "b": 1.0}})
    assert other.status_code == 409
    assert http.get("/models/51").status_code == 404
    assert http.get("/models/one").status_code == 404


def test_data_are_served_in_both_forms(http: httpx.Client) -> None:
    said = http.get("/datasets/proplet-1").json()

    arrays = http.get("/arrays/datasets/proplet-1").json()

    assert said["proplet_id"] == "proplet-1"
    assert said["size"] == len(said["data"]) == len(arrays["x"]) == len(arrays["y"]) > 10
    assert said["data"][0] == {"x": arrays["x"][0], "y": arrays["y"][0]}
    assert set(arrays) == {"x", "y"}
    assert http.get("/datasets/nobody").status_code == 404
    assert http.get("/datasets/..%2Fsecret").status_code == 404


# --- tasks


def create(http: httpx.Client, **task: Any) -> str:
    made = http.post("/tasks", json=task)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def until_ended(http: httpx.Client, task_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        said: dict[str, Any] = http.get(f"/tasks/{task_id}").json()
        return said if said["state"] not in (0, 2) else {}

    return wait_until(look, PATIENCE_S, f"task {task_id} has ended")


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def test_a_task_from_creation_to_oblivion(http: httpx.Client) -> None:
    wait_until(lambda: http.get("/proplets").json()["total"] == 3, PATIENCE_S, "proplets are known")
    task_id = create(http, name="add", file=encoded(ADD), inputs=[3, "5"], proplet_id="proplet-2")
    assert http.get(f"/tasks/{task_id}").json()["state"] == 0
    assert http.post(f"/tasks/{task_id}/start").json() == {"started": True}

    said = until_ended(http, task_id)

    assert (said["state"], said["results"], said["proplet_id"]) == (3, "8", "proplet-2")
    assert "file" not in said
    assert http.get(f"/tasks/{task_id}/results").json() == {"results": "8"}
    assert task_id in [task["id"] for task in http.get("/tasks").json()["tasks"]]
    assert http.post(f"/tasks/{task_id}/start").status_code == 409
    assert http.delete(f"/tasks/{task_id}").status_code == 204
    assert http.get(f"/tasks/{task_id}").status_code == 404


def test_an_image_by_its_name_on_whichever_proplet(http: httpx.Client) -> None:
    task_id = create(http, name="_start", image_url="oci://example/fl-client-wasm:latest")
    assert http.post(f"/tasks/{task_id}/start").status_code == 200

    said = until_ended(http, task_id)

    assert said["state"] == 4  # it is a training module, and finds no round
    assert "status" in said["error"]


def test_a_daemon_is_stopped(http: httpx.Client) -> None:
    task_id = create(http, name="sleeper", file=encoded(SLEEPER), daemon=True)
    http.post(f"/tasks/{task_id}/start")
    assert http.delete(f"/tasks/{task_id}").status_code == 409

    assert http.post(f"/tasks/{task_id}/stop").json() == {"stopped": True}

    wait_until(
        lambda: (
            "results" in http.get(f"/tasks/{task_id}").json()
            or "error" in http.get(f"/tasks/{task_id}").json()
        ),
        PATIENCE_S,
        "what it said last is there",
    )
    assert http.get(f"/tasks/{task_id}").json()["state"] == 6


def test_a_daemon_of_propellers_own_proplet_is_stopped_though_it_said_it_was_done(
    http: httpx.Client, deployment: Deployment
) -> None:
    """What its Rust proplet says: a daemon's start is answered at once, and the daemon runs on."""
    topics = deployment.settings.topics
    of_it = {"proplet_id": "rust-1", "namespace": "default"}
    with peer_at(deployment.address) as rust:
        rust.subscribe(topics.task_start, topics.task_stop)
        metadata = {"os": "linux", "total_memory_bytes": 25276514304, "proplet_version": "0.5.0"}
        rust.publish(topics.proplet_create, json.dumps({**of_it, "metadata": metadata}).encode())
        rust.publish(topics.proplet_alive, json.dumps({**of_it, "status": "alive"}).encode())
        wait_until(
            lambda: http.get("/proplets/rust-1").status_code == 200, PATIENCE_S, "it is known"
        )
        task_id = create(
            http, name="serve", file=encoded(SLEEPER), daemon=True, proplet_id="rust-1"
        )
        assert http.post(f"/tasks/{task_id}/start").status_code == 200
        rust.wait_for(topics.task_start, lambda m: m["id"] == task_id, timeout_s=PATIENCE_S)
        done = {"task_id": task_id, "proplet_id": "rust-1", "results": "", "error": None}
        rust.publish(topics.proplet_results, json.dumps(done).encode())
        assert until_ended(http, task_id)["state"] == 3

        assert http.post(f"/tasks/{task_id}/stop").json() == {"stopped": True}

        stop = rust.wait_for(topics.task_stop, lambda m: m["id"] == task_id, timeout_s=PATIENCE_S)
        assert stop["proplet_id"] == "rust-1"
        assert http.post(f"/tasks/{task_id}/stop").status_code == 409
        rust.publish(topics.proplet_alive, json.dumps({**of_it, "status": "offline"}).encode())


def test_nobody_to_run_it_is_said(http: httpx.Client) -> None:
    task_id = create(http, name="add", file=encoded(ADD), proplet_id="nobody")

    answer = http.post(f"/tasks/{task_id}/start")

    assert (answer.status_code, answer.json()["where"]) == (409, "proplet_id")
    assert http.get(f"/tasks/{task_id}").json()["state"] == 0


# --- the door


@pytest.mark.parametrize("shown", ["", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_who_shows_no_token_gets_nothing(deployment: Deployment, shown: str) -> None:
    with httpx.Client(base_url=deployment.gateway_address) as stranger:
        refused = stranger.get("/tasks", headers={"authorization": shown})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert stranger.get("/health").json() == {"status": "ok", "broker": "up"}
        assert stranger.get("/openapi.json").status_code == 200


def test_each_token_of_the_file_is_of_its_role(deployment: Deployment) -> None:
    url = deployment.gateway_address
    operator, observer, hand = (
        {"authorization": f"Bearer {TOKENS[name]}"} for name in ("operator", "observer", "hand-1")
    )
    wanted = experiment("r-roles")
    with httpx.Client(base_url=url, timeout=90.0) as http:
        assert http.post("/experiments", json=wanted, headers=hand).status_code == 403
        assert http.post("/experiments", json=wanted, headers=observer).status_code == 403
        assert http.post("/experiments", json=wanted, headers=operator).status_code == 201
        mine = http.get("/task", params={"round_id": "r-roles"}, headers=hand).json()["task"]
        assert mine["config"] == {"proplet_id": "hand-1"}
        own, other = (update("r-roles", name) for name in ("hand-1", "hand-2"))
        assert http.post("/update", json=other, headers=hand).status_code == 403
        assert http.post("/update", json=own, headers=operator).status_code == 403
        assert http.post("/update", json=own, headers=hand).status_code == 200
        seen = http.get("/rounds/r-roles/complete", headers=observer).json()
        assert (seen["completed"], seen["k_of_n"]) == (False, 2)  # whose count comes by and by


def test_a_body_has_its_limit_and_its_type(http: httpx.Client) -> None:
    large = json.dumps({"name": "x" * (8 * 1024 * 1024)}).encode()
    as_json = {"content-type": "application/json"}

    assert http.post("/tasks", content=large, headers=as_json).status_code == 413
    assert http.post("/tasks", content=iter([large]), headers=as_json).status_code == 413
    assert http.post("/tasks", content=b"{}").status_code == 415
    for bad in (b"", b"[]", b"{", b"\xa0", b"null", b'{"name": NaN}'):
        assert http.post("/tasks", content=bad, headers=as_json).status_code == 400
