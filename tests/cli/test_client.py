"""`propeller-fl client push` and `client pull`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from propeller_fl.cli import main
from propeller_fl.manager import BuiltinImages, ImageLibrary
from propeller_fl.signing import PublicKey
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


def keygen(directory: Path, name: str = "key") -> str:
    made = client(directory, "keygen", str(directory / name))
    assert made.exit_code == 0, made.output
    return PublicKey.read(directory / f"{name}.pub").key_id


def test_sign_and_trust(tmp_path: Path) -> None:
    key_ids = {keygen(tmp_path, name) for name in ("key", "other")}
    module = tmp_path / "a.wasm"
    module.write_bytes(BuiltinImages().fetch("builtin:linear"))
    for name in ("key", "other", "key"):
        signed = client(tmp_path, "sign", str(module), "--key", str(tmp_path / name))
        assert signed.exit_code == 0, signed.output
    image = ImageLibrary({}).fetch(str(module))
    assert set(image.signatures) == key_ids

    for name in ("key", "other"):
        added = client(tmp_path, "trust", str(tmp_path / f"{name}.pub"))
        assert added.exit_code == 0, added.output
    assert set(client(tmp_path, "trust", "--list").stdout.split()) == key_ids
    gone = min(key_ids)
    assert client(tmp_path, "trust", "--remove", gone).exit_code == 0
    assert client(tmp_path, "trust", "--list").stdout.split() == [max(key_ids)]
    again = client(tmp_path, "trust", "--remove", gone)
    assert (again.exit_code, "is trusted" in again.output) == (1, True)
    assert client(tmp_path, "trust").exit_code == 2
    private = client(tmp_path, "trust", str(tmp_path / "key"))
    assert (private.exit_code, ".pub file" in private.output) == (1, True)


def test_a_signature_of_what_a_module_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key_id = keygen(tmp_path)
    module = tmp_path / "a.wasm"
    for name in ("linear", "softmax"):
        module.write_bytes(BuiltinImages().fetch(f"builtin:{name}"))
        assert not ImageLibrary({}).fetch(str(module)).signatures
        signed = client(tmp_path, "sign", str(module), "--key", str(tmp_path / "key"))
        assert signed.exit_code == 0, signed.output
        assert set(ImageLibrary({}).fetch(str(module)).signatures) == {key_id}
    assert "signs another module" in caplog.text
    assert "replaced" in signed.output


def test_signatures_travel_with_a_module_through_a_registry(tmp_path: Path) -> None:
    key_id = keygen(tmp_path)
    signed = client(tmp_path, "sign", "builtin:linear", "--key", str(tmp_path / "key"))
    assert signed.exit_code == 0, signed.output
    with running_registry(tmp_path / "registry") as registry:
        tag = f"oci://{registry.host}/lab/signed:1"
        assert client(tmp_path, "push", "builtin:linear", tag).exit_code == 0
        got = tmp_path / "got.wasm"
        assert client(tmp_path / "b", "pull", tag, "-o", str(got)).exit_code == 0
    assert set(ImageLibrary({}).fetch(str(got)).signatures) == {key_id}


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
