"""The key of SuperMQ's auth service."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from propeller_fl.cli import main


def test_a_key_is_what_the_auth_service_reads_and_nobody_elses(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    result = CliRunner().invoke(main, ["supermq", "keygen", str(directory)])
    assert result.exit_code == 0, result.output
    path = directory / "active.key"
    assert result.output == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    pem = path.read_bytes()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")  # PKCS #8
    key = load_pem_private_key(pem, None)
    assert isinstance(key, Ed25519PrivateKey)
    key.public_key().verify(key.sign(b"token"), b"token")


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["supermq", "keygen", str(tmp_path)])
    before = (tmp_path / "active.key").read_bytes()
    result = CliRunner().invoke(main, ["supermq", "keygen", str(tmp_path)])
    assert result.exit_code == 1
    assert "there is a key" in result.output
    assert (tmp_path / "active.key").read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["supermq", "keygen", str(tmp_path / "file" / "keys")])
    assert result.exit_code == 1
    assert str(tmp_path / "file") in result.output
