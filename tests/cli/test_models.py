"""`model get` and `model put`, with the real command, a real model server and a real broker."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner

from propeller_fl.cli import main
from tests.support.brokers import RunningBroker, embedded_broker
from tests.support.peers import Peer, peer_at
from tests.support.services import Service, running

TENSORS = {
    "w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "b": np.asarray(0.1, np.float32),
}


class Desk:
    """An operator's, with a directory of its own."""

    def __init__(self, broker: RunningBroker, directory: Path, server: Service) -> None:
        self.broker = broker
        self.directory = directory
        self.server = server

    def run(self, *arguments: str | Path, status: int = 0) -> bytes:
        """What a command prints, or, if it is to fail, why it does."""
        address = self.broker.address
        result = CliRunner().invoke(
            main, ["--broker", f"mqtt://{address.host}:{address.port}", *map(str, arguments)]
        )
        assert result.exit_code == status, result.output
        return result.stderr_bytes if status else result.stdout_bytes

    def file(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("desk")
    with embedded_broker(directory) as broker:
        server = Service(directory, broker.address, "model-server")
        with running(server):
            yield Desk(broker, directory, server)


@pytest.fixture
def peer(desk: Desk) -> Iterator[Peer]:
    with peer_at(desk.broker.address) as peer:
        yield peer


def retained(peer: Peer, topic: str) -> bytes:
    peer.subscribe(topic)
    return peer.wait_for_bytes(topic)


def versions(desk: Desk) -> list[int]:
    return [row["version"] for row in json.loads(desk.run("model", "list", "--json"))]


def test_put_in_each_form_and_get_in_each_other(desk: Desk, peer: Peer) -> None:
    latest = versions(desk)[-1]
    buffer = io.BytesIO()
    np.savez(buffer, **TENSORS)  # type: ignore[arg-type]
    files = {
        "npz": buffer.getvalue(),
        "safetensors": safetensors.numpy.save(TENSORS),
        "json": json.dumps({name: array.tolist() for name, array in TENSORS.items()}).encode(),
    }
    for number, (form, data) in enumerate(files.items(), start=latest + 1):
        said = desk.run("model", "put", desk.file(f"model.{form}", data)).decode()
        assert said.startswith(f"fl/models/global_model_v{number}: ")
        published = retained(peer, f"fl/models/global_model_v{number}")
        assert published[:1] == b"{" if form == "json" else published[:1] != b"{"
        on_disk = "json" if form == "json" else "safetensors"
        assert (desk.directory / "models" / f"global_model_v{number}.{on_disk}").exists()

        assert desk.run("model", "get", str(number)) == published
        document = json.loads(desk.run("model", "get", str(number), "--format", "json"))
        assert document["version"] == number
        assert np.array_equal(np.float32(document["w"]), TENSORS["w"])
        path = desk.directory / "got"
        desk.run("model", "get", str(number), "--format", "safetensors", "-o", path)
        got = safetensors.numpy.load_file(path)
        assert set(got) == set(TENSORS)
        assert all(np.array_equal(got[name], array) for name, array in TENSORS.items())
        desk.run("model", "get", str(number), "--format", "npz", "-o", path)
        with np.load(path) as arrays:
            assert all(np.array_equal(arrays[name], array) for name, array in TENSORS.items())
        cbor = desk.run("model", "get", str(number), "--format", "cbor")
        assert form == "json" or cbor == published


def test_a_file_that_get_wrote_is_the_next_version(desk: Desk) -> None:
    path = desk.directory / "again.safetensors"
    desk.run("model", "get", "0", "--format", "safetensors", "-o", path)
    latest = versions(desk)[-1]
    desk.run("model", "put", path)
    shown = json.loads(desk.run("model", "show", str(latest + 1), "--json"))
    assert shown["version"] == latest + 1


def test_a_version_by_number(desk: Desk) -> None:
    path = desk.file("sparse.json", b'{"w": [1, 2]}')
    said = desk.run("model", "put", path, "--version", "100", "--format", "cbor").decode()
    assert said == "fl/models/global_model_v100: 24 bytes as cbor\n"
    assert b"error: version 100 exists (a version is never used twice" in desk.run(
        "model", "put", path, "--version", "100", status=1
    )


def test_after_a_restart_the_same_bytes_are_published(desk: Desk) -> None:
    """Their digest is in completions and in the coordinator's store."""
    desk.run("model", "put", desk.file("model.safetensors", safetensors.numpy.save(TENSORS)))
    before = json.loads(desk.run("model", "list", "--json"))
    desk.server.stop()
    latest = f"fl/models/global_model_v{before[-1]['version']}"
    with peer_at(desk.broker.address) as peer:
        peer.publish(latest, b"", retain=True)  # the broker loses it
        desk.server.forget_log()
        desk.server.start()
        # not sooner: who subscribes while it is being retained may miss it
        desk.server.wait_for("published 1 models that the broker did not have")
        again = retained(peer, latest)
    assert hashlib.sha256(again).hexdigest() == before[-1]["sha256"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no model at all", "holds no model: the document cannot be read"),
        (b'{"w": [1, NaN]}', "model.w holds NaN"),
        (b'{"w": [[1], [1, 2]]}', "rectangular"),
        (safetensors.numpy.save({"w": np.ones(3)})[:-1], "no safetensors file"),
        (b"PK\x03\x04", "the npz file cannot be read"),
    ],
    ids=["text", "nan", "ragged", "short", "zip"],
)
def test_what_cannot_be_put(desk: Desk, data: bytes, why: str) -> None:
    before = versions(desk)
    assert why in desk.run("model", "put", desk.file("bad", data), status=1).decode()
    assert b"No such file" in desk.run("model", "put", desk.directory / "nowhere", status=1)
    assert versions(desk) == before


def test_nobody_there_to_take_it(tmp_path: Path) -> None:
    with embedded_broker(tmp_path) as broker:
        desk = Desk(broker, tmp_path, Service(tmp_path, broker.address, "model-server"))
        path = desk.file("model.json", b'{"w": [1]}')
        said = desk.run("model", "put", path, status=1).decode()
        assert "nobody has published fl/models/global_model_v0" in said
        assert "is a model server running" in said
