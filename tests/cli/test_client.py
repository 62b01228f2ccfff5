"""`propeller-fl client push` and `client pull`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from propeller_fl.cli import main
from propeller_fl.manager import BuiltinImages
from tests.oci.bad_server import BadServer, bad_server, in_turn, status
from tests.support.registry import running_registry


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as running:
        yield running


def client(directory: Path, *arguments: str) -> Result:
    env = {"PROPELLER_FL_DATA_DIR": str(directory), "DOCKER_CONFIG": str(directory)}
    return CliRunner(env=env).invoke(main, ["client", *arguments])


def test_push_and_pull(tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry") as registry:
        tag = f"oci://{registry.host}/lab/linear:1"
        pushed = client(tmp_path, "push", "builtin:linear", tag)
        assert pushed.exit_code == 0, pushed.output
        by_digest = pushed.stdout.strip()
        assert by_digest.startswith(f"oci://{registry.host}/lab/linear@sha256:")
        for reference in (tag, by_digest):
            pulled = client(tmp_path / "b", "pull", reference, "-o", str(tmp_path / "got.wasm"))
            assert pulled.stdout.strip() == by_digest
            got = (tmp_path / "got.wasm").read_bytes()
            assert got == BuiltinImages().fetch("builtin:linear")
        assert client(tmp_path, "check", tag).exit_code == 0


def test_a_registry_that_is_busy_is_asked_again(server: BadServer, tmp_path: Path) -> None:
    server.serve_module(BuiltinImages().fetch("builtin:linear"))
    path = "/v2/lab/x/manifests/1"
    server.handlers[path] = in_turn(status(503), server.handlers[path])
    pulled = client(tmp_path, "pull", f"oci://{server.host}/lab/x:1", "-o", str(tmp_path / "a"))
    assert pulled.exit_code == 0, pulled.output
    assert "503; again in 0.5 s" in pulled.output


def test_a_registry_that_asks_to_be_left_alone_is_not_waited_for(
    server: BadServer, tmp_path: Path
) -> None:
    server.handlers["/v2/lab/x/manifests/1"] = status(429, Retry_After="90")
    pulled = client(tmp_path, "pull", f"oci://{server.host}/lab/x:1", "-o", str(tmp_path / "a"))
    assert pulled.exit_code == 1
    assert "429, and to be asked again in 90 s" in pulled.output
    assert not (tmp_path / "a").exists()


def test_what_is_no_module_is_not_pushed(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    pushed = client(tmp_path, "push", str(tmp_path / "a.txt"), f"oci://{server.host}/lab/x:1")
    assert pushed.exit_code == 1
    assert "is not a Wasm module" in pushed.output
    assert not server.seen
