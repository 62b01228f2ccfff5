"""The file that makes somebody who they are."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import stat
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from click.testing import CliRunner, Result
from matplotlib.image import imread

from propeller_fl.access import AccessDesk, AccessRole, Credential, Keyring, Plan
from propeller_fl.cli import main
from propeller_fl.config import load
from propeller_fl.errors import ConfigError
from propeller_fl.firmware import LINE_BYTES_MAX
from tests.hil.fakes import FakeBoard
from tests.support.board_shell import BoardShell


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> AccessDesk:
    plan = Plan(hosts=("broker.example",), topic_prefix="m/t.1/c/ch")
    return AccessDesk.init(tmp_path_factory.mktemp("made"), plan, ["board-1"])


@pytest.fixture
def path(desk: AccessDesk) -> Path:
    return desk.path_of("board-1", AccessRole.PROPLET)


def test_it_reads_as_it_was_written_and_shows_no_secret(path: Path) -> None:
    credential = Credential.load(path)
    assert Credential.decode(credential.encode(), "copy") == credential
    shown = repr(credential) + repr(credential.address()) + str(credential.address())
    for secret in (credential.password, credential.token, credential.client_id):
        assert len(secret) > 20
        assert secret not in shown
    assert base64.b64encode(credential.key).decode() not in shown
    assert "PRIVATE KEY" not in shown
    assert credential.broker == "mqtts://broker.example:8883"
    assert len(credential.encode()) < 2_900  # else no QR code holds it


def test_one_that_others_can_read_is_refused(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    for mode in (0o640, 0o604, 0o660):
        copy.chmod(mode)
        with pytest.raises(ConfigError, match=r"can be read by others .*chmod 600"):
            Credential.load(copy)
    copy.chmod(0o600)
    assert Credential.load(copy).name == "board-1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"propeller_fl_credential": 2}, "version 2"),
        ({"role": "emperor"}, "is not a credential"),
        ({"name": "a/b"}, "is not an id"),
        ({"key": "***"}, "is not a credential"),
        ({"own_topics": "yes"}, "is not a credential"),
        ({"password": None}, "is not a credential"),
    ],
)
def test_what_is_none_is_refused_and_not_shown(
    path: Path, change: dict[str, object], said: str
) -> None:
    document = json.loads(path.read_bytes()) | change
    with pytest.raises(ConfigError, match=said) as caught:
        Credential.decode(json.dumps(document).encode(), "that file")
    assert document["token"] not in str(caught.value)
    for junk in (b"", b"[]", b"null", b"{}", path.read_bytes()[:-1], b"\xff"):
        with pytest.raises(ConfigError, match="that file is not a credential"):
            Credential.decode(junk, "that file")


def test_settings_come_with_it(path: Path, tmp_path: Path) -> None:
    settings = load(environ={}, flags={"data_dir": str(tmp_path), "credentials": str(path)})
    adapted = Keyring.of(settings).adapt(settings)
    assert adapted.topic_prefix == "m/t.1/c/ch"
    assert adapted.proplet.ids == ("board-1",)
    assert adapted.proplet.models_url == "https://broker.example:8443"


def test_mosquitto_finds_the_password_in_its_hash(desk: AccessDesk, path: Path) -> None:
    [identity] = [one for one in desk.identities() if one.name == "board-1"]
    _, kind, rounds, salt, digest = identity.pbkdf2.split("$")
    password = Credential.load(path).password.encode()
    made = hashlib.pbkdf2_hmac("sha512", password, base64.b64decode(salt), int(rounds))
    assert (kind, base64.b64decode(digest)) == ("7", made)


def run(desk: AccessDesk, *arguments: str) -> Result:
    data_dir = desk.path_of("x", AccessRole.PROPLET).parents[2]
    return CliRunner().invoke(main, ["--data-dir", str(data_dir), *arguments])


def test_what_is_typed_on_a_board(desk: AccessDesk, tmp_path: Path) -> None:
    shell, loaded = tmp_path / "board.txt", tmp_path / "board.conf"
    for form, output in (("shell", shell), ("settings", loaded)):
        done = run(desk, "proplet", "enroll", "b.2", "--replace", f"--format={form}", f"-o{output}")
        assert done.exit_code == 0, done.output
        assert stat.S_IMODE(output.stat().st_mode) == 0o600
        credential = Credential.load(desk.path_of("b.2", AccessRole.PROPLET))
        assert credential.password not in done.output
        lines = output.read_text().splitlines()
        if form == "shell":
            assert max(map(len, lines)) <= LINE_BYTES_MAX
            board = BoardShell()
            assert {board.type(line) for line in lines} == {"fl: done"}
            pairs = board.settings
        else:
            pairs = dict(line.split("=", 1) for line in lines)
        assert pairs["proplet_id"] == pairs["broker_user"] == "b.2"
        assert pairs["broker_password"] == credential.password
        assert (pairs["broker_host"], pairs["broker_port"]) == ("broker.example", "8883")
        assert pairs["topic_prefix"] == "m/t.1/c/ch"
        assert pairs["own_topics"] == "yes"
        # DER of what CONFIG_FL_TLS_CERTIFICATE_BYTES_MAX has room for, and a key OpenSSL takes too
        assert max(len(base64.b64decode(pairs[k])) for k in ("tls_ca", "tls_certificate")) < 1024
        assert ssl.DER_cert_to_PEM_cert(base64.b64decode(pairs["tls_certificate"]))


@pytest.mark.parametrize(
    ("name", "starts"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.txt", "██".encode())]
)
def test_a_code_to_be_scanned(desk: AccessDesk, tmp_path: Path, name: str, starts: bytes) -> None:
    output = tmp_path / name
    done = run(desk, "proplet", "enroll", "qr", "--replace", "--format=qr", f"-o{output}")
    assert done.exit_code == 0, done.output
    assert output.read_bytes().startswith(starts)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_a_reader_of_codes_gets_the_whole_credential(desk: AccessDesk, tmp_path: Path) -> None:
    output = tmp_path / "code.png"
    done = run(desk, "proplet", "enroll", "seen", "--replace", "--format=qr", f"-o{output}")
    assert done.exit_code == 0, done.output
    [code] = zxingcpp.read_barcodes((imread(output) * 255).astype(np.uint8))
    assert code.bytes == desk.path_of("seen", AccessRole.PROPLET).read_bytes()


def test_typed_on_the_console_of_a_board(desk: AccessDesk, tmp_path: Path) -> None:
    board = FakeBoard(tmp_path, "P1")
    try:
        done = run(desk, "proplet", "enroll", "typed", f"--serial={board.console}")
    finally:
        board.close()
    # it stops at the login, which this board refuses, and says so without showing it
    assert done.exit_code != 0
    assert "refused: broker_user: unknown" in done.output
    assert board.settings["proplet_id"] == "typed"
    credential = Credential.load(desk.path_of("typed", AccessRole.PROPLET))
    assert credential.password not in done.output

    board = FakeBoard(tmp_path, "P2", refused=())
    try:
        arguments = ["--replace", f"--serial={board.console}"]
        done = run(desk, "proplet", "enroll", "typed", *arguments)
    finally:
        board.close()
    assert done.exit_code == 0, done.output
    credential = Credential.load(desk.path_of("typed", AccessRole.PROPLET))
    assert board.settings["broker_password"] == credential.password
    assert base64.b64decode(board.settings["tls_certificate"]) == credential.certificate


def test_a_copy_wants_a_place(desk: AccessDesk) -> None:
    assert "needs --output" in run(desk, "proplet", "enroll", "c", "--format=qr").output
