"""Push to and pull from Debian's registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from propeller_fl.config import RegistryConfig
from propeller_fl.errors import ImageError
from propeller_fl.oci import Blobs, Login, Reference, Registry
from tests.support.registry import PASSWORD, USER, RunningRegistry, running_registry

WASM, OTHER = b"\0asm\1\0\0\0", b"\0asm\1\0\0\0" + 300_000 * b"x"
MAX_BYTES = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("private"), with_login=True) as running:
        yield running


def client(directory: Path, login: Login | None = None) -> Registry:
    return Registry(RegistryConfig(), Blobs(directory / "blobs"), login=lambda host: login)


def test_what_is_pushed_is_pulled(server: RunningRegistry, tmp_path: Path) -> None:
    tag = Reference.parse(f"oci://{server.host}/lab/client:v1")
    pinned = client(tmp_path).push(tag, OTHER, {"a": "b"})
    for asked in (tag, pinned):
        pulled = client(tmp_path).pull(asked, MAX_BYTES)
        assert (pulled.data, pulled.reference, pulled.annotations) == (OTHER, pinned, {"a": "b"})
    assert client(tmp_path).push(tag, OTHER, {"a": "b"}) == pinned


def test_a_tag_that_moves_and_a_digest_that_does_not(
    server: RunningRegistry, tmp_path: Path
) -> None:
    tag = Reference.parse(f"oci://{server.host}/lab/moving")
    first = client(tmp_path).push(tag, WASM, {})
    client(tmp_path).push(tag, OTHER, {})
    assert client(tmp_path).pull(tag, MAX_BYTES).data == OTHER
    assert client(tmp_path / "elsewhere").pull(first, MAX_BYTES).data == WASM


def test_what_was_pulled_by_digest_needs_no_registry(
    server: RunningRegistry, tmp_path: Path
) -> None:
    tag = Reference.parse(f"oci://{server.host}/lab/kept:1")
    pinned = client(tmp_path).push(tag, OTHER, {})
    client(tmp_path).pull(tag, MAX_BYTES)
    before = server.requests("GET")
    assert client(tmp_path).pull(pinned, MAX_BYTES).data == OTHER
    assert server.requests("GET") == before


def test_bytes_damaged_on_disk_are_fetched_again(server: RunningRegistry, tmp_path: Path) -> None:
    tag = Reference.parse(f"oci://{server.host}/lab/damaged:1")
    client(tmp_path).push(tag, OTHER, {})
    client(tmp_path).pull(tag, MAX_BYTES)
    for path in (tmp_path / "blobs").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert client(tmp_path).pull(tag, MAX_BYTES).data == OTHER


def test_a_module_that_is_too_large(server: RunningRegistry, tmp_path: Path) -> None:
    tag = Reference.parse(f"oci://{server.host}/lab/large:1")
    client(tmp_path).push(tag, OTHER, {})
    with pytest.raises(ImageError, match=f"the module has {len(OTHER)} bytes"):
        client(tmp_path).pull(tag, 1000)


@pytest.mark.parametrize("name", ["lab/client:no-such-tag", "no/such/name:1"])
def test_what_is_not_there(server: RunningRegistry, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=rf"{name}.*404.*UNKNOWN.*has it been pushed"):
        client(tmp_path).pull(Reference.parse(f"oci://{server.host}/{name}"), MAX_BYTES)


def test_user_and_password(private: RunningRegistry, tmp_path: Path) -> None:
    tag = Reference.parse(f"oci://{private.host}/lab/client:1")
    known = client(tmp_path, Login(USER, PASSWORD))
    assert known.push(tag, WASM, {}) == known.pull(tag, MAX_BYTES).reference
    with pytest.raises(ImageError, match=r"user and password.*docker login"):
        client(tmp_path / "a").pull(tag, MAX_BYTES)
    with pytest.raises(ImageError, match=r"401.*docker login") as caught:
        client(tmp_path / "b", Login(USER, "wrong")).pull(tag, MAX_BYTES)
    assert "wrong" not in str(caught.value)


def test_the_login_that_docker_has(
    private: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {private.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    tag = Reference.parse(f"oci://{private.host}/lab/docker:1")
    Registry(RegistryConfig(), Blobs(tmp_path / "blobs")).push(tag, WASM, {})


def test_an_index_leads_to_its_entry_for_wasm(server: RunningRegistry, tmp_path: Path) -> None:
    pushed = client(tmp_path).push(Reference.parse(f"oci://{server.host}/lab/many:1"), WASM, {})
    base = f"http://{server.host}/v2/lab/many/manifests"
    http = urllib3.PoolManager()
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    manifest = http.request("GET", f"{base}/1", headers=accept)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{pushed.digest}",
        "size": len(manifest.data),
        "platform": {"architecture": "wasm", "os": "wasip1"},
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }
    put = http.request(
        "PUT", f"{base}/all", json.dumps(index), headers={"Content-Type": str(index["mediaType"])}
    )
    assert put.status == 201, put.data
    pulled = client(tmp_path / "a").pull(
        Reference.parse(f"oci://{server.host}/lab/many:all"), MAX_BYTES
    )
    assert pulled.data == WASM
    assert f"sha256:{pulled.reference.digest}" == put.headers["Docker-Content-Digest"]
