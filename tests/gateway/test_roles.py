"""Who may ask what over HTTP: the app alone behind its gate, with no socket and no broker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import ConfigError
from propeller_fl.gateway import Gateway, TaskBook, TaskState, api_app, gateway_server, openapi
from propeller_fl.link import BrokerAddress, Link, LinkLoop
from propeller_fl.web import Caller, HttpGuard
from propeller_fl.wire import Topics

ROLES = ("gateway", "operator", "publisher", "observer", "proplet", "manager")
CALLERS = {f"token-of-{role}": Caller(role, role) for role in ROLES}
CALLERS["token-of-proplet"] = Caller("p-1", "proplet")
GUARD = HttpGuard(knows=CALLERS.get)

READ = {"gateway", "operator", "publisher", "observer", "proplet"}
WATCH = {"gateway", "operator", "observer"}
RUN = {"gateway", "operator"}
PUT = {"gateway", "operator", "publisher"}
TAKE_PART = {"gateway", "proplet"}
MAY = {
    "experiment": RUN, "fl_experiment": RUN, "round_task": READ, "fl_round_task": READ,
    "update": TAKE_PART, "fl_update": TAKE_PART, "update_cbor": TAKE_PART,
    "fl_update_cbor": TAKE_PART, "next_round": READ, "round": READ, "fl_round": READ,
    "post_model": PUT, "models": READ, "model": READ, "dataset": TAKE_PART, "arrays": TAKE_PART,
    "proplets": READ, "proplet": READ, "create_task": RUN, "tasks": WATCH, "task": WATCH,
    "results": WATCH, "delete_task": RUN, "start_task": RUN, "stop_task": RUN,
}  # fmt: skip


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """One whose broker is not there: what is let in is answered soon, with a failure."""
    address = BrokerAddress("127.0.0.1", 9)
    config = GatewayConfig(wait_s=0.01)
    with LinkLoop() as loop:
        link = Link(loop, address, "gateway")
        book = TaskBook(tmp_path / "tasks.db")
        gateway = Gateway(link, address, Topics(), config, book)
        yield gateway
        gateway.stop()
        link.abort()
        book.close()


def ask(
    gateway: Gateway, *requests: dict[str, Any], guard: HttpGuard = GUARD, **config: Any
) -> list[httpx.Response]:
    app = api_app(gateway, GatewayConfig(wait_s=0.01, **config), guard, body_patience_s=0.2)

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(cast(Any, app))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.request(**{"method": "GET", **request}) for request in requests]

    return asyncio.run(all_of_them())


def bearer(role: str) -> dict[str, str]:
    return {"authorization": f"Bearer token-of-{role}"}


def operations() -> Iterator[tuple[str, str, str]]:
    for path, methods in openapi()["paths"].items():
        for method, said in methods.items():
            if said["operationId"] != "health":
                yield said["operationId"], method.upper(), re.sub(r"{\w+}", "p-1", path)


@pytest.mark.parametrize("role", [*ROLES, ""])
def test_each_role_may_do_its_part_and_no_more(gateway: Gateway, role: str) -> None:
    found = list(operations())
    headers = bearer(role) if role else {}
    requests = ({"method": m, "url": u, "headers": headers} for _, m, u in found)
    answers = ask(gateway, *requests, max_requests_per_s=1000)

    let_in = {
        name
        for (name, _, _), answer in zip(found, answers, strict=True)
        if answer.status_code not in (401, 403)
    }
    assert let_in == {name for name, roles in MAY.items() if role in roles}


def test_the_table_names_every_operation() -> None:
    assert {name for name, _, _ in operations()} == set(MAY)


def test_a_proplet_speaks_for_itself_alone(gateway: Gateway) -> None:
    own = {"round_id": "r-1", "proplet_id": "p-1", "update": {}}
    requests: list[dict[str, Any]] = [
        {"url": "/task?round_id=r-1&proplet_id=p-2"},
        {"url": "/datasets/p-2"},
        {"url": "/arrays/datasets/p-2"},
        {"url": "/update", "method": "POST", "json": own | {"proplet_id": "p-2"}},
    ]
    for request in requests:
        [answer] = ask(gateway, request | {"headers": bearer("proplet")})
        assert answer.status_code == 403, request
        assert answer.json()["where"] == "proplet_id"
    [mine] = ask(
        gateway,
        {"url": "/update", "method": "POST", "json": own, "headers": bearer("proplet")},
    )
    assert mine.status_code in (503, 504)  # no broker, but it was let in


def test_what_a_task_is_given_is_for_operators(gateway: Gateway) -> None:
    secret = {"name": "x", "image_url": "builtin:linear", "env": {"KEY": "secret"}}
    [made] = ask(
        gateway,
        {"url": "/tasks", "method": "POST", "json": secret, "headers": bearer("operator")},
    )
    one = f"/tasks/{made.json()['id']}"
    shown, seen, listed = ask(
        gateway,
        {"url": one, "headers": bearer("operator")},
        {"url": one, "headers": bearer("observer")},
        {"url": "/tasks", "headers": bearer("observer")},
    )
    assert shown.json()["env"] == {"KEY": "secret"}
    assert seen.json()["state"] == TaskState.PENDING
    assert "secret" not in seen.text + listed.text


def test_routes_that_are_open_are_so_for_reading_alone(gateway: Gateway) -> None:
    post = {"url": "/models", "method": "POST", "json": {}}
    paths = ("/models", "/models/x", "/fl/task?round_id=r", "/tasks", "/proplets")
    answers = ask(gateway, *({"url": path} for path in paths), post, open_routes=("models", "task"))
    assert [answer.status_code for answer in answers] == [200, 404, 404, 401, 401, 401]


def test_where_nobody_needs_a_token_pages_of_elsewhere_get_nothing(gateway: Gateway) -> None:
    led = {"url": "/models", "headers": {"host": "models.example"}}
    here, away = ask(gateway, {"url": "/models"}, led, guard=HttpGuard())
    assert (here.status_code, away.status_code) == (200, 421)


def test_who_asks_too_much_waits(gateway: Gateway) -> None:
    answers = ask(
        gateway, *[{"url": "/models", "headers": bearer("observer")}] * 3, max_requests_per_s=1e-6
    )
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert int(answers[1].headers["retry-after"]) > 1


def test_a_body_that_does_not_come_is_not_waited_for(gateway: Gateway) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    headers = {**bearer("operator"), "content-type": "application/json"}

    async def send_it() -> httpx.Response:
        """As a server hands it on; httpx would have all of a body before it calls an app."""
        app = api_app(gateway, GatewayConfig(), GUARD, body_patience_s=0.2)
        said: list[dict[str, Any]] = []
        pieces = stalls()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(pieces), "more_body": True}

        async def send(message: Any) -> None:
            said.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/tasks", "raw_path": b"/tasks",
            "query_string": b"", "client": ("127.0.0.1", 1), "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        await app(scope, cast(Any, receive), send)
        return httpx.Response(said[0]["status"], content=said[1]["body"])

    answer = asyncio.run(asyncio.wait_for(send_it(), 60))
    assert answer.status_code == 408
    assert "did not come" in answer.json()["error"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        ("short", "less than 16"),
        ("operator short", "less than 16"),
        (f"a b {'x' * 20}", "more than a name"),
        (f"a/b {'x' * 20}", "is none"),
    ],
)
def test_a_token_file_that_is_none(gateway: Gateway, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        gateway_server(gateway, GatewayConfig(http_port=0, token_file=file))
    assert "xxxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [({}, "without tokens"), ({"allow_plain": True}, "without tokens"), ({"file": 1}, "TLS")],
)
def test_beyond_this_machine_nothing_goes_in_clear(
    gateway: Gateway, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    if more.pop("file", None):
        (tmp_path / "tokens").write_text("x" * 20)
        more = {"token_file": tmp_path / "tokens"}
    with pytest.raises(ConfigError, match=said):
        gateway_server(gateway, GatewayConfig(http_host="0.0.0.0", http_port=0, **more))
