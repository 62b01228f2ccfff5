"""Who is let in over HTTP, how often, and with how much: the gate alone, with no socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from propeller_fl.errors import ConfigError
from propeller_fl.web import CALLER, Caller, Gate, RateLimit

TOKENS = {"secret-of-a": Caller("a"), "secret-of-b": Caller("b", "observer")}


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    response: Response = PlainTextResponse(f"{scope['path']} {len(body)}")
    await response(scope, receive, send)


def ask(gate: Gate, *requests: dict[str, Any], address: str = "192.0.2.1") -> list[httpx.Response]:
    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(gate, raise_app_exceptions=False, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://models") as client:
            return [await client.request("GET", **request) for request in requests]

    return asyncio.run(all_of_them())


def statuses(gate: Gate, *requests: dict[str, Any], address: str = "192.0.2.1") -> list[int]:
    return [answer.status_code for answer in ask(gate, *requests, address=address)]


def bearer(token: str) -> dict[str, Any]:
    return {"url": "/models", "headers": {"Authorization": f"Bearer {token}"}}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer")],
        [("Authorization", "Basic secret-of-a")],
        [("Authorization", "secret-of-a")],
        [("Authorization", "Bearer secret-of-a extra")],
        [("Authorization", "Bearer secret-of-a"), ("Authorization", "Bearer secret-of-a")],
        [("Authorization", "Bearer wrong, Bearer secret-of-a")],
        [("X-Authorization", "Bearer secret-of-a")],
        [("X-Original-URL", "/healthz")],
        [("X-Forwarded-For", "127.0.0.1")],
    ],
)
def test_without_a_token_there_is_nothing(headers: list[tuple[str, str]]) -> None:
    [answer] = ask(Gate(app, TOKENS.get, 10), {"url": "/models", "headers": headers})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/healthz/", "/healthz/../models", "//healthz", "/healthz%2f"])
def test_only_the_very_path_is_open(path: str) -> None:
    assert statuses(Gate(app, TOKENS.get, 10), {"url": path}) == [401]


def test_with_a_token_there_is() -> None:
    gate = Gate(app, TOKENS.get, 10)
    assert statuses(gate, bearer("secret-of-a"), {"url": "/healthz"}) == [200, 200]
    assert statuses(Gate(app, None, 10), {"url": "/models"}) == [200]


def test_when_tokens_cannot_be_looked_up_nobody_is_let_in() -> None:
    def fails(token: str) -> Caller | None:
        raise ConfigError("identities.json: gone")

    assert statuses(Gate(app, fails, 10), bearer("secret-of-a")) == [503]


def test_who_asks_too_much_waits_and_nobody_else() -> None:
    clock = Clock()
    gate = Gate(app, TOKENS.get, 5, clock=clock)
    assert statuses(gate, *[bearer("secret-of-a")] * 11) == [200] * 10 + [429]
    [late] = ask(gate, bearer("secret-of-a"))
    assert late.headers["retry-after"] == "1"
    assert statuses(gate, bearer("secret-of-b")) == [200]
    clock.now_s += 0.2
    assert statuses(gate, *[bearer("secret-of-a")] * 2) == [200, 429]


def test_who_guesses_waits_sooner_and_who_knows_does_not() -> None:
    clock = Clock()
    gate = Gate(app, TOKENS.get, 50, clock=clock)
    assert statuses(gate, *[bearer("guess")] * 12) == [401] * 10 + [429] * 2
    assert statuses(gate, bearer("secret-of-a")) == [200]
    assert statuses(gate, bearer("guess"), address="192.0.2.2") == [401]


def test_a_body_is_bounded_whatever_is_said_of_it() -> None:
    gate = Gate(app, None, 100)
    too_much = b"x" * 65_537

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield too_much[:30_000]

    fits, said, unsaid, mad, negative = statuses(
        gate,
        {"url": "/", "content": too_much[:-1]},
        {"url": "/", "content": too_much},
        {"url": "/", "content": pieces()},
        {"url": "/", "headers": {"Content-Length": "9" * 400}},
        {"url": "/", "headers": {"Content-Length": "-1"}},
    )
    assert (fits, said, unsaid, mad, negative) == (200, 413, 413, 413, 413)


def test_a_body_that_says_two_lengths_is_refused() -> None:
    both = [("Content-Length", "3"), ("Transfer-Encoding", "chunked")]
    assert statuses(Gate(app, None, 100), {"url": "/", "headers": both}) == [400]


def test_what_is_open_to_readers_takes_a_token_that_is_good_or_none() -> None:
    seen: list[object] = []

    async def notes(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope[CALLER])
        await app(scope, receive, send)

    gate = Gate(notes, TOKENS.get, 50, opens=lambda method, path: path == "/models")
    good, bad = bearer("secret-of-b"), bearer("guess")
    assert statuses(gate, {"url": "/models"}, good, bad, {"url": "/tasks"}) == [200, 200, 401, 401]
    assert seen == [None, Caller("b", "observer")]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("models.example:8080", 421),
        ("127.0.0.1.example", 421),
        ("192.0.2.7", 421),
    ],
)
def test_without_a_token_a_page_of_elsewhere_gets_nothing(host: str, status: int) -> None:
    request = {"url": "/models", "headers": {"Host": host}}
    assert statuses(Gate(app, None, 50, at_home=True), request) == [status]
    shown = bearer("secret-of-a")
    shown["headers"]["Host"] = host
    assert statuses(Gate(app, TOKENS.get, 50, at_home=True), shown) == [200]


@pytest.mark.parametrize(
    "path", ["/a/%2e%2e/b", "/a/..%2fb", "/a%5cb", "/a%00", "//a", "/a/.%2E", "/a\\b"]
)
def test_a_path_that_others_read_as_another_is_none(path: str) -> None:
    async def ask_raw() -> int:
        scope = {
            "type": "http", "method": "GET", "path": "/a", "raw_path": path.encode(),
            "query_string": b"", "headers": [], "client": ("192.0.2.1", 1),
        }  # fmt: skip
        said: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            said.append(message)

        await Gate(app, None, 50)(scope, receive, send)
        status: int = said[0]["status"]
        return status

    assert asyncio.run(ask_raw()) == 404


def test_the_memory_of_rates_is_bounded() -> None:
    rates = RateLimit(1.0, 1.0, max_clients=2)
    assert [rates.wait_s(client, 0.0) for client in "abc"] == [0.0, 0.0, 0.0]
    assert rates.wait_s("c", 0.0) == pytest.approx(1.0)
    assert rates.wait_s("a", 0.0) == 0.0  # forgotten
    assert rates.wait_s("c", 0.5) == pytest.approx(0.5)
    assert rates.wait_s("c", 1.0) == 0.0
