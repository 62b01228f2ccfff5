"""Provisioning, against a server that checks each request as SuperMQ's API would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from propeller_fl import config
from propeller_fl.cli import main
from propeller_fl.login import broker_address
from tests.supermq.server import FakeSuperMq

NAMES = ["manager", "coordinator", "model-server", "operator", "proplet-1", "proplet-2"]


@pytest.fixture
def supermq() -> Iterator[FakeSuperMq]:
    with FakeSuperMq() as fake:
        yield fake
        assert fake.faults == []


def run(fake: FakeSuperMq, directory: Path, *arguments: str, password: str = "") -> Result:
    env = {"SMQ_USERS_ADMIN_PASSWORD": password or fake.password}
    command = ["supermq", "provision", str(directory), "--url", fake.url]
    command += ["--proplets", "proplet-1,proplet-2", *arguments]
    return CliRunner(env=env).invoke(main, command)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_services_find_their_way_with_what_it_writes(supermq: FakeSuperMq, tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    result = run(supermq, directory, "--broker", "mqtt://adapter:1884")
    assert result.exit_code == 0, result.output
    (domain,), (channel,) = supermq.domains, supermq.channels
    clients = {client["name"]: client for client in supermq.clients}
    assert sorted(clients) == sorted(NAMES)
    assert supermq.connections == {
        (channel["id"], client["id"], kind)
        for client in supermq.clients
        for kind in ("publish", "subscribe")
    }
    for name in NAMES:
        environ = {"PROPELLER_FL_BROKER_ALLOW_PLAIN": "true"}  # as the compose files have it
        settings = config.load(directory / f"{name}.toml", environ=environ)
        address = broker_address(settings.broker)
        assert (address.host, address.port) == ("adapter", 1884)
        assert address.username == clients[name]["id"]
        assert address.password == clients[name]["credentials"]["secret"]
        assert settings.topic_prefix == f"m/{domain['id']}/c/{channel['id']}"
    assert config.load(directory / "proplet-2.toml", environ={}).proplet.ids == ("proplet-2",)
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    for client in supermq.clients:
        assert client["credentials"]["secret"] not in result.output


def test_a_second_run_changes_nothing(supermq: FakeSuperMq, tmp_path: Path) -> None:
    assert run(supermq, tmp_path).exit_code == 0
    state, written = supermq.state(), files(tmp_path)
    result = run(supermq, tmp_path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["changes"] == []
    assert (supermq.state(), files(tmp_path)) == (state, written)
    assert "nothing to do" in run(supermq, tmp_path).output


def test_what_is_lacking_is_made(supermq: FakeSuperMq, tmp_path: Path) -> None:
    assert run(supermq, tmp_path).exit_code == 0
    written = files(tmp_path)
    supermq.connections.pop()
    (tmp_path / "manager.key").unlink()
    (tmp_path / "operator.toml").chmod(0o644)
    result = run(supermq, tmp_path, "--json")
    assert len(json.loads(result.output)["changes"]) == 2
    assert files(tmp_path) == written
    assert len(supermq.connections) == 2 * len(NAMES)
    assert (tmp_path / "operator.toml").stat().st_mode & 0o777 == 0o600


def test_names_that_only_begin_alike_are_others(supermq: FakeSuperMq, tmp_path: Path) -> None:
    many = ",".join(f"proplet-{number}" for number in range(1, 130))
    assert run(supermq, tmp_path, "--proplets", many).exit_code == 0
    state = supermq.state()
    # proplet-1 is one of 41 that the name finds, and all 129 do not fit into one page
    assert run(supermq, tmp_path, "--proplets", "proplet-1,proplet").exit_code == 0
    assert len(supermq.clients) == 4 + 129 + 1
    assert run(supermq, tmp_path, "--proplets", "proplet").exit_code == 0
    assert state != supermq.state()
    assert len(supermq.clients) == 4 + 129 + 1


def test_a_container_sees_the_files_elsewhere(supermq: FakeSuperMq, tmp_path: Path) -> None:
    assert run(supermq, tmp_path, "--seen-as", "/secrets").exit_code == 0
    settings = config.load(tmp_path / "manager.toml", environ={})
    assert settings.broker.password_file == Path("/secrets/manager.key")


def test_services_that_are_starting_are_waited_for(supermq: FakeSuperMq, tmp_path: Path) -> None:
    supermq.not_up_for = 1
    assert run(supermq, tmp_path, "--wait-s", "100").exit_code == 0
    supermq.not_up_for = 1
    result = run(supermq, tmp_path)
    assert result.exit_code == 1
    assert "502" in result.output


def test_a_wrong_password_is_said_and_not_shown(supermq: FakeSuperMq, tmp_path: Path) -> None:
    result = run(supermq, tmp_path, password="wrong-secret")
    assert result.exit_code == 1
    assert "refuses admin with 401" in result.output
    assert "check the user's name and password" in result.output
    assert "wrong-secret" not in result.output


def test_a_password_comes_from_a_file(supermq: FakeSuperMq, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{supermq.password}\n")
    arguments = ("--password-file", str(file))
    assert run(supermq, tmp_path / "out", *arguments, password="wrong").exit_code == 0
    result = run(supermq, tmp_path / "out", "--password-file", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert str(tmp_path / "none") in result.output


def test_a_disabled_domain_is_not_taken_for_none(supermq: FakeSuperMq, tmp_path: Path) -> None:
    assert run(supermq, tmp_path).exit_code == 0
    supermq.domains[0]["status"] = "disabled"
    result = run(supermq, tmp_path)
    assert result.exit_code == 1
    assert "409" in result.output
    assert "disabled" in result.output


def test_two_of_a_name_are_nobodys_guess(supermq: FakeSuperMq, tmp_path: Path) -> None:
    assert run(supermq, tmp_path).exit_code == 0
    supermq.clients.append(supermq.clients[0] | {"id": "00000000-0000-0000-0000-000000000000"})
    result = run(supermq, tmp_path)
    assert result.exit_code == 1
    assert "there are 2 clients named manager" in result.output


def test_a_secret_that_is_not_shown_cannot_be_written(supermq: FakeSuperMq, tmp_path: Path) -> None:
    supermq.shows_secrets = False
    result = run(supermq, tmp_path)
    assert result.exit_code == 1
    assert "does not show the secret of client manager" in result.output


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, b"<html>"), "no JSON object"),
        ((201, b"[]"), "no JSON object"),
        ((201, b'{"token": 1}'), "no access token"),
        ((302, b""), "302"),
        ((500, b'{"message": "database is away"}'), "database is away"),
    ],
)
def test_another_server_is_told_apart(
    supermq: FakeSuperMq, tmp_path: Path, answer: tuple[int, bytes], says: str
) -> None:
    supermq.answers["/users/tokens/issue"] = answer
    result = run(supermq, tmp_path)
    assert result.exit_code == 1
    assert says in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--clients-url", "http://127.0.0.1:1"], "the clients service at http://127.0.0.1:1"),
        (["--users-url", "ftp://x"], "the users service's address"),
        (["--broker", "mqtt://a:b@h:1"], "has a login"),
        (["--proplets", "a/b"], "not an id"),
        (["--proplets", "a..b"], "two dots"),
        (["--domain", "2nd"], "cannot be called '2nd'"),
        (["--proplets", "a,a"], "two clients would be called a"),
    ],
)
def test_what_cannot_be_is_said(
    supermq: FakeSuperMq, tmp_path: Path, arguments: list[str], says: str
) -> None:
    result = run(supermq, tmp_path, *arguments)
    assert result.exit_code == 1
    assert says in result.output
