"""Clients that keep the HTTP face waiting, and what that costs the others."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from propeller_fl.config import ModelServerConfig
from propeller_fl.link import LinkLoop
from propeller_fl.model_server import ModelServer
from propeller_fl.store import ModelsDir
from propeller_fl.wire import Format, Model, Topics
from tests.manager.peers import new_link
from tests.support.brokers import RunningBroker, free_port

PATIENCE_S = 1.0
LARGE = Model({"w": np.zeros(2_500_000, np.float32)}, 1).encode(
    Format.CBOR
)  # more than is buffered
ASK = b"GET /models/1 HTTP/1.1\r\nHost: x\r\n"

Address = tuple[str, int]


@pytest.fixture
def address(nats: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where a model server with little patience and a model of some megabytes listens."""
    with LinkLoop() as loop, ModelsDir(tmp_path_factory.mktemp("models")) as models:
        models.put(1, LARGE)
        link = new_link(loop, nats.address, "model-server")
        config = ModelServerConfig(http_port=free_port())
        server = ModelServer(link, Topics(), config, models, patience_s=PATIENCE_S)
        server.start()
        try:
            yield server.http_address
        finally:
            server.stop()
            link.abort()


def until_hung_up(client: socket.socket, *, say: bytes = b"") -> None:
    """Say a byte of ``say`` now and then, until the server has ended the connection."""
    deadline_s = time.monotonic() + 30
    left = iter(say)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline_s:
            byte = next(left, None)
            if byte is not None:
                client.sendall(bytes([byte]))
            if select.select([client], [], [], PATIENCE_S / 5)[0] and not client.recv(65_536):
                return
        pytest.fail("the server waits on")


@pytest.mark.parametrize("say", [b"", ASK * 100], ids=["nothing", "a byte at a time"])
def test_a_request_that_does_not_come(address: Address, say: bytes) -> None:
    with socket.create_connection(address, 10) as client:
        until_hung_up(client, say=say)


def test_who_has_begun_a_request_is_told_why_it_ends(address: Address) -> None:
    with socket.create_connection(address, 30) as client:
        client.sendall(ASK)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"content-length: %d" % len(body) in head


def test_a_second_request_that_does_not_come(address: Address) -> None:
    with socket.create_connection(address, 10) as client:
        client.sendall(ASK.replace(b"/models/1", b"/healthz") + b"\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        until_hung_up(client, say=ASK * 100)


def test_an_answer_that_is_not_read(address: Address) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(address)
        client.sendall(ASK + b"\r\n")
        hung_up = select.poll()
        hung_up.register(client, select.POLLERR | select.POLLHUP)
        assert hung_up.poll(30_000), "the server waits on"


def test_an_answer_that_is_read_slowly_but_steadily_is_whole(address: Address) -> None:
    with socket.create_connection(address, 10) as client:
        client.sendall(ASK + b"Connection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(256 * 1024):
            answer += piece
            select.select([], [], [], PATIENCE_S / 20)
    assert answer.endswith(b"\r\n\r\n" + LARGE)


def test_others_are_served_meanwhile(address: Address) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(300):  # more than are let in at once
            client = stack.enter_context(socket.create_connection(address, 10))
            if number % 2:
                client.sendall(ASK + b"\r\n")  # and the answer is not read
        url = f"http://{address[0]}:{address[1]}"
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            assert http.get("/models/1").content == LARGE


@pytest.mark.parametrize(
    "junk",
    [
        b"\0" * 100,
        b"GET " + b"/" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000,
        b"\x16\x03",
    ],
    ids=["zeros", "a long path", "many headers", "TLS"],
)
def test_junk_is_refused(address: Address, junk: bytes) -> None:
    with socket.create_connection(address, 10) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(junk)
        until_hung_up(client)
