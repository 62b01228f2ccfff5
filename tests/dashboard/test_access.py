"""Who may look at the page and who may start rounds from it, over real HTTP."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from propeller_fl.access import AccessDesk, AccessRole, Credential, Plan
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ConfigError
from tests.dashboard.conftest import settings

START = {
    "round_id": "r-1",
    "model_uri": "fl/models/global_model_v0",
    "task_wasm_image": "builtin:linear",
    "participants": ["p-1"],
    "hyperparams": {},
    "k_of_n": 1,
    "timeout_s": 60,
}

ACTS = ("/api/rounds/r-1/stop", "/api/experiments", "/api/experiments/x-1/command")


def ours(client: httpx.Client) -> dict[str, str]:
    return {"origin": str(client.base_url).rstrip("/")}


class Guarded:
    """A deployment of `init`, with broker, coordinator, model server and page."""

    def __init__(self, desk: AccessDesk, address: str) -> None:
        self.desk = desk
        self.address = address

    def token(self, role: AccessRole, name: str = "") -> str:
        return Credential.load(self.desk.path_of(name or role.value, role)).token

    def client(self, token: str = "") -> httpx.Client:
        trust = ssl.create_default_context(cadata=self._authority())
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.address, verify=trust, headers=headers, timeout=60)

    def _authority(self) -> bytes:
        path = self.desk.path_of("operator", AccessRole.OPERATOR)
        return Credential.load(path).authority


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    desk = AccessDesk.init(directory / "state", Plan(port=0), ["p-1"])
    roles = Role.BROKER | Role.COORDINATOR | Role.MODEL_SERVER | Role.DASHBOARD
    with Deployment(settings(directory), roles) as running:
        yield Guarded(desk, running.dashboard_address)


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """On loopback, where nobody needs a token."""
    directory = tmp_path_factory.mktemp("open")
    with (
        Deployment(settings(directory), Role.BROKER | Role.DASHBOARD) as running,
        httpx.Client(base_url=running.dashboard_address, timeout=60) as client,
    ):
        yield client


def test_without_a_token_nothing_is_told(guarded: Guarded) -> None:
    with guarded.client() as client:
        assert client.get("/").status_code == 200  # the page itself says nothing
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.get("/api/me").json()["known"] is False
        for path in ("/api/snapshot", "/api/stream", "/api/rounds/r-1", "/models/0"):
            assert client.get(path).status_code == 401, path
        for path in ("/api/rounds", *ACTS):
            assert client.post(path, json=START, headers=ours(client)).status_code == 401, path


@pytest.mark.parametrize("role", [AccessRole.PROPLET, AccessRole.MANAGER, AccessRole.DASHBOARD])
def test_a_token_of_who_has_no_business_here_is_none(guarded: Guarded, role: AccessRole) -> None:
    name = "p-1" if role is AccessRole.PROPLET else ""
    with guarded.client(guarded.token(role, name)) as client:
        assert client.get("/api/snapshot").status_code == 401


def test_an_observer_looks_and_an_operator_starts(guarded: Guarded) -> None:
    with guarded.client(guarded.token(AccessRole.OBSERVER)) as observer:
        assert observer.get("/api/me").json()["may_start"] is False
        assert observer.get("/api/snapshot").status_code == 200
        refused = observer.post("/api/rounds", json=START)
        assert refused.status_code == 403
        assert "operator" in refused.json()["error"]
        for path in ACTS:
            assert observer.post(path, json={}).status_code == 403, path
    with guarded.client(guarded.token(AccessRole.OPERATOR)) as operator:
        assert operator.post("/api/rounds", json=START).json()["phase"] == "open"
        assert operator.get("/api/rounds/r-1").json()["start"]["participants"] == 1
        bad = operator.post("/api/rounds", json=START | {"k_of_n": 5})
        assert (bad.status_code, bad.json()["field"]) == (400, "k_of_n")
        used = operator.post("/api/rounds", json=START | {"timeout_s": 61})
        assert used.status_code == 409
        stop = {"round_id": "r-1", "reason": "enough"}
        assert operator.post("/api/rounds/r-2/stop", json=stop).status_code == 400
        stopped = operator.post("/api/rounds/r-1/stop", json=stop).json()
        assert (stopped["phase"], stopped["detail"]) == ("failed", "stopped by operator: enough")
        never = operator.post("/api/rounds/r-9/stop", json={"round_id": "r-9"})
        assert never.status_code == 409
        assert "stopped before it was opened" in never.json()["error"]


def test_a_session_is_a_cookie_that_no_script_reads_and_ends_with_its_token(
    guarded: Guarded,
) -> None:
    with guarded.client() as client:
        body = {"token": guarded.token(AccessRole.OBSERVER)}
        assert client.post("/api/login", json=body).status_code == 403  # from nowhere
        answer = client.post("/api/login", json=body, headers=ours(client))
        cookie = answer.headers["set-cookie"].lower()
        assert {"httponly", "samesite=strict", "secure", "path=/"} <= set(cookie.split("; "))
        assert client.get("/api/snapshot").status_code == 200
        guarded.desk.rotate("observer")
        assert client.get("/api/snapshot").status_code == 401
        body = {"token": guarded.token(AccessRole.OBSERVER)}
        client.post("/api/login", json=body, headers=ours(client))
        assert client.get("/api/snapshot").status_code == 200
        client.post("/api/logout", json={}, headers=ours(client))
        assert client.get("/api/snapshot").status_code == 401
        tries = [
            client.post("/api/login", json={"token": f"guess-{n}"}, headers=ours(client))
            for n in range(60)
        ]
        assert {answer.status_code for answer in tries} == {401, 429}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "OURS", "content-type": "text/plain"}, 415),
        ({"origin": "OURS"}, 400),  # let in, and the body is refused
    ],
)
def test_only_the_page_itself_may_ask_for_changes(
    open_page: httpx.Client, headers: dict[str, str], status: int
) -> None:
    own = ours(open_page)["origin"]
    sent = {"content-type": "application/json"} | headers
    sent = {name: own if value == "OURS" else value for name, value in sent.items()}
    assert open_page.post("/api/rounds", content=b"{}", headers=sent).status_code == status


def test_a_name_that_is_turned_to_this_machine_is_not_this_page(open_page: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:80", "", "[::1", "127.0.0.1.evil.example"):
        answer = open_page.get("/api/snapshot", headers={"host": host})
        assert answer.status_code in (400, 403), host
    assert open_page.get("/api/snapshot", headers={"host": "localhost:1"}).status_code == 200


def test_every_answer_says_what_a_browser_may_do_with_it(open_page: httpx.Client) -> None:
    for path in ("/", "/static/app.js", "/api/snapshot", "/nothing", "/static/..%2f_app.py"):
        headers = open_page.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_the_stream_begins_with_a_snapshot(open_page: httpx.Client) -> None:
    with open_page.stream("GET", "/api/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == "event: snapshot"
        document: dict[str, Any] = json.loads(next(lines).removeprefix("data: "))
    assert document["broker"] is True


def test_beyond_this_machine_without_tokens_is_refused(tmp_path: Path) -> None:
    chosen = settings(tmp_path, **{"dashboard.http_host": "0.0.0.0"})
    with (
        pytest.raises(ConfigError, match="nobody would need a token"),
        Deployment(chosen, Role.DASHBOARD),
    ):
        pass


def test_a_deployment_from_before_there_was_a_page_runs_without_and_can_have_one(
    tmp_path: Path,
) -> None:
    desk = AccessDesk.init(tmp_path / "state", Plan(port=0))
    book = tmp_path / "state" / "access" / "identities.json"
    document = json.loads(book.read_text())
    document["identities"] = [one for one in document["identities"] if one["name"] != "dashboard"]
    book.write_text(json.dumps(document))
    desk.path_of("dashboard", AccessRole.DASHBOARD).unlink()
    with Deployment(settings(tmp_path), Role.BROKER | Role.DASHBOARD) as running:
        assert running.dashboard_address == ""
    with (
        pytest.raises(ConfigError, match="access rotate dashboard"),
        Deployment(settings(tmp_path), Role.DASHBOARD),
    ):
        pass
    desk.rotate("dashboard")
    with Deployment(settings(tmp_path), Role.BROKER | Role.DASHBOARD) as running:
        assert running.dashboard_address.startswith("https://")
