"""The HTTP face, over a real socket."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator

import httpx
import pytest

from propeller_fl.config import ModelServerConfig
from propeller_fl.errors import ConfigError
from propeller_fl.model_server import ModelServer
from propeller_fl.store import ModelFormat, convert

from .conftest import TOPICS, Stage

ZERO = b'{"w":[0.0,0.0,0.0],"b":0.0,"version":0}'
CBOR = b"\xa2\x61w\xfb\x3f\xf8\0\0\0\0\0\0\x67version\x01"
ETAG = f'"{hashlib.sha256(ZERO).hexdigest()}"'


@pytest.fixture
def http(stage: Stage) -> Iterator[httpx.Client]:
    stage.start_server()
    stage.models.put(1, CBOR)
    with httpx.Client(base_url=stage.url, trust_env=False) as client:
        yield client


def test_list(http: httpx.Client) -> None:
    answer = http.get("/models")
    assert answer.status_code == 200
    assert answer.json() == [
        {
            "version": version,
            "format": form,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for version, form, data in ((0, "json", ZERO), (1, "cbor", CBOR))
    ]


def test_one_version(http: httpx.Client) -> None:
    answer = http.get("/models/0")
    assert (answer.status_code, answer.content) == (200, ZERO)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["etag"] == ETAG
    assert "immutable" in answer.headers["cache-control"]


def test_latest(http: httpx.Client) -> None:
    answer = http.get("/models/latest")
    assert (answer.status_code, answer.content) == (200, CBOR)
    assert answer.headers["content-type"] == "application/cbor"
    assert answer.headers["content-location"] == "/models/1"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("form", list(ModelFormat))
@pytest.mark.parametrize("version", [0, 1])
def test_in_another_form(http: httpx.Client, version: int, form: ModelFormat) -> None:
    wanted = convert((ZERO, CBOR)[version], form)
    answer = http.get(f"/models/{version}", params={"format": form})
    assert (answer.status_code, answer.content) == (200, wanted)
    etag = answer.headers["etag"]
    assert etag == f'"{hashlib.sha256(wanted).hexdigest()}"'
    accept = {"accept": answer.headers["content-type"]}
    rest = http.get(f"/models/{version}", headers={**accept, "range": "bytes=9-", "if-range": etag})
    assert (rest.status_code, rest.content) == (206, wanted[9:])
    assert rest.headers["vary"] == "accept"
    head = http.head(f"/models/{version}?format={form}")
    assert (head.headers["content-length"], head.content) == (str(len(wanted)), b"")


def test_in_a_form_there_is_not(http: httpx.Client) -> None:
    answer = http.get("/models/0?format=onnx")
    assert answer.status_code == 400
    assert answer.json()["error"] == "format is one of json, cbor, safetensors, npz"
    assert http.get("/models/0", headers={"accept": "text/html"}).content == ZERO


def test_in_a_form_it_cannot_have(http: httpx.Client, stage: Stage) -> None:
    stage.models.put(2, b'{"__metadata__":[1],"version":2}')
    answer = http.get("/models/2?format=safetensors")
    assert answer.status_code == 406
    assert "rename it" in answer.json()["error"]


def test_head(http: httpx.Client) -> None:
    answer = http.head("/models/0")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(ZERO))
    assert answer.headers["etag"] == ETAG


@pytest.mark.parametrize("tags", [ETAG, "*", f'"x", W/{ETAG}'])
def test_not_modified(http: httpx.Client, tags: str) -> None:
    answer = http.get("/models/0", headers={"if-none-match": tags, "range": "bytes=0-0"})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == ETAG


def test_modified(http: httpx.Client) -> None:
    assert http.get("/models/1", headers={"if-none-match": ETAG}).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=5-", 5, len(ZERO)),
        ("bytes=-4", len(ZERO) - 4, len(ZERO)),
        ("bytes=-999", 0, len(ZERO)),
        ("bytes=3-9999", 3, len(ZERO)),
    ],
)
def test_range(http: httpx.Client, wanted: str, start: int, stop: int) -> None:
    answer = http.get("/models/0", headers={"range": wanted})
    assert (answer.status_code, answer.content) == (206, ZERO[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(ZERO)}"
    assert answer.headers["etag"] == ETAG


@pytest.mark.parametrize("wanted", ["bytes=999-", f"bytes={len(ZERO)}-", "bytes=-0"])
def test_range_beyond_the_end(http: httpx.Client, wanted: str) -> None:
    answer = http.get("/models/0", headers={"range": wanted})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(ZERO)}"


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1,4-5", "bytes=5-2", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0x1-2"]
)
def test_range_that_is_ignored(http: httpx.Client, wanted: str) -> None:
    answer = http.get("/models/0", headers={"range": wanted})
    assert (answer.status_code, answer.content) == (200, ZERO)


@pytest.mark.parametrize(("tag", "status"), [(ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200)])
def test_if_range(http: httpx.Client, tag: str, status: int) -> None:
    answer = http.get("/models/0", headers={"range": "bytes=0-3", "if-range": tag})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "path",
    ["2", "00", "01", "-1", "+1", "1.0", "%31%00", "٣", "..%2f..%2fetc", "9" * 30, "1/", ""],
)
def test_no_such_model(http: httpx.Client, path: str) -> None:
    answer = http.get(f"/models/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_only_for_reading(http: httpx.Client) -> None:
    assert http.put("/models/5", content=ZERO).status_code == 405


def test_health(http: httpx.Client, stage: Stage) -> None:
    assert http.get("/healthz").json() == {"status": "ok", "models": 2, "broker": "up"}


def test_a_directory_that_has_gone(http: httpx.Client, stage: Stage) -> None:
    stage.models.directory.rename(stage.directory / "away")
    answer = http.get("/models")
    assert answer.status_code == 503
    assert "No such file" in answer.json()["error"]


def test_a_port_that_is_taken(stage: Stage) -> None:
    stage.start_server()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = ModelServerConfig(http_port=listener.getsockname()[1])
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            ModelServer(stage.link, TOPICS, config, stage.models)


def test_the_port_is_free_after_stop(stage: Stage) -> None:
    stage.start_server()
    address = stage.server.http_address
    stage.server.stop()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, 5):
        pass
