"""From `propeller-fl init` to a round over TLS, and a proplet that is thrown out of it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from propeller_fl.access import AccessDesk, AccessRole, Credential
from propeller_fl.cli import main
from propeller_fl.link import opens_session
from tests.support.brokers import free_port
from tests.support.services import Service, running
from tests.support.wait import wait_until

FIRST, AWAY = "proplet-1", "board.7"


def run(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data-dir", str(data_dir), *arguments])


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "deployment"
    # a stranger's umask must not matter
    umask = os.umask(0)
    try:
        made = run(
            directory, "init", f"--port={free_port()}", f"--http-port={free_port()}",
            f"--proplets={FIRST}",
        )  # fmt: skip
    finally:
        os.umask(umask)
    assert made.exit_code == 0, made.stderr
    assert "start the rest: propeller-fl" in made.stderr
    return directory


@pytest.fixture(scope="module")
def up(deployment: Path) -> Iterator[Service]:
    settings = [
        f"model_server.http_port={http_port(deployment)}",
        "gateway.enabled=true",
        "gateway.http_port=0",
        "metrics.enabled=true",
        "metrics.http_port=0",
    ]
    service = Service(deployment, None, "up", f"--proplets={FIRST}", settings=settings)
    with running(service):
        service.wait_for(f"ready: {FIRST}")
        yield service


def http_port(deployment: Path) -> int:
    settings = tomllib.loads((deployment / "settings.toml").read_text())
    port: int = settings["model_server"]["http_port"]
    return port


def secrets_of(deployment: Path) -> list[str]:
    found = []
    for path in (deployment / "access").glob("*/*.json"):
        document = json.loads(path.read_bytes())
        found += [document[name] for name in ("password", "token", "key")]
    return found


def test_a_broker_grants_what_this_program_does_not_what_an_older_one_did(deployment: Path) -> None:
    users = deployment / "access" / "nats-users.conf"
    granted = users.read_bytes()
    stops = b"fl.rounds.*.stop"
    assert stops in granted
    users.write_bytes(granted.replace(stops, b"fl.rounds.nobody.knew.of.stops"))
    AccessDesk(deployment).broker_security()
    assert users.read_bytes() == granted
    assert stat.S_IMODE(users.stat().st_mode) == 0o600


def test_what_init_makes_is_for_its_owner_alone(deployment: Path) -> None:
    for path in [deployment, *deployment.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_no_secret_in_what_the_broker_reads(deployment: Path) -> None:
    texts = [(deployment / "access" / name).read_text() for name in ("identities.json",
             "nats-users.conf")]  # fmt: skip
    secrets = secrets_of(deployment)
    assert len(secrets) >= 3 * 8
    assert not [secret for text in texts for secret in secrets if secret in text]


def test_a_second_init_spoils_nothing(deployment: Path) -> None:
    before = (deployment / "access" / "identities.json").read_bytes()
    again = run(deployment, "init")
    assert again.exit_code == 1
    assert "is a deployment already" in again.stderr
    assert (deployment / "access" / "identities.json").read_bytes() == before


def test_round_with_a_proplet_from_elsewhere_that_is_then_revoked(
    up: Service, deployment: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "board.7.json"
    enrolled = run(deployment, "proplet", "enroll", AWAY, "--output", str(bundle))
    assert enrolled.exit_code == 0, enrolled.stderr
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600

    # it has the file and its data, and nothing else of ours
    away = Service(tmp_path / "away", None, "proplet", "--credentials", str(bundle))
    with running(away):
        away.wait_for(f"ready: {AWAY}")
        started = run(
            deployment, "round", "start", "--image=builtin:linear",
            f"--participants={FIRST},{AWAY}", "--param=epochs=1",
        )  # fmt: skip
        assert started.exit_code == 0, started.stderr + up.log + away.log
        assert "complete: 2 updates" in started.stdout
        assert "the broker refused" not in up.log  # nobody of ours lacks a topic

        credential = Credential.load(bundle)
        assert opens_session(credential.address())
        revoked = run(deployment, "proplet", "revoke", AWAY)
        assert revoked.exit_code == 0, revoked.stderr
        assert not opens_session(credential.address())  # at once
        away.wait_for("Not authorized")  # and its session is over
        wait_until(lambda: f"proplet_id={AWAY}" in up.log, 60, "the manager hears that it is gone")
        assert up.running

    assert f"{AWAY} has no" not in enrolled.stderr
    said = up.log + away.log + enrolled.stdout + enrolled.stderr + revoked.stderr
    secrets = [*secrets_of(deployment), credential.password, credential.token]
    assert not [secret for secret in secrets if secret in said]

    listed = json.loads(run(deployment, "access", "list", "--json").stdout)
    [gone] = [row for row in listed if row["name"] == AWAY]
    assert gone["revoked_at"]
    # who comes back is another: the old file stays worthless
    assert run(deployment, "proplet", "enroll", AWAY).exit_code == 0
    assert not opens_session(credential.address())


def test_a_rotated_credential_is_void_and_keeps_the_session(up: Service, deployment: Path) -> None:
    desk = AccessDesk.at(deployment)
    assert desk is not None
    path = desk.path_of("observer", AccessRole.OBSERVER)
    old = Credential.load(path)
    assert run(deployment, "access", "rotate", "observer").exit_code == 0
    new = Credential.load(path)
    assert not opens_session(old.address())
    assert opens_session(new.address())
    assert new.client_id == old.client_id


def gateway_url(up: Service) -> str:
    ready = "ready: Propeller's HTTP at "
    up.wait_for(ready)
    [line] = [line for line in up.log.splitlines() if line.startswith(ready)]
    return line.removeprefix(ready)


def client_of(deployment: Path, url: str, name: str) -> httpx.Client:
    desk = AccessDesk.at(deployment)
    assert desk is not None
    role = AccessRole.PROPLET if name == FIRST else AccessRole(name)
    credential = Credential.load(desk.path_of(name, role))
    headers = {"Authorization": f"Bearer {credential.token}"}
    return httpx.Client(
        base_url=url, verify=credential.tls.context(), headers=headers, timeout=60, trust_env=False
    )


def test_the_gateway_hears_of_rounds_and_proplets(up: Service, deployment: Path) -> None:
    url = gateway_url(up)
    assert url.startswith("https://")  # though it is for this machine alone
    with client_of(deployment, url, "observer") as http:

        def alive() -> list[str]:
            found = http.get("/proplets").json()["proplets"]
            return [proplet["id"] for proplet in found if proplet["alive"]]

        wait_until(lambda: FIRST in alive(), 60, "the proplet is alive for the gateway")

        def versions() -> list[int]:
            found: list[int] = http.get("/models").json()["versions"]
            return found

        wait_until(lambda: 0 in versions(), 60, "the gateway has heard of the first model")
        assert http.post("/tasks", json={"name": "x"}).status_code == 403
        assert http.get("/models", headers={"Authorization": "Bearer x"}).status_code == 401
    with client_of(deployment, url, FIRST) as http:
        assert http.get("/datasets/another").status_code == 403
        assert http.post("/experiments", json={}).status_code == 403
    with client_of(deployment, url, "coordinator") as http:
        assert http.get("/models").status_code == 403
    context = ssl.create_default_context(cafile=deployment / "access" / "authority.pem")
    with (
        httpx.Client(base_url=url, verify=context, trust_env=False) as stranger,
        pytest.raises(httpx.TransportError),
    ):
        stranger.get("/health")


def test_an_operator_runs_a_round_over_https(up: Service, deployment: Path) -> None:
    done = run(deployment, "test", "http", "--url", gateway_url(up), f"--participants={FIRST}")
    assert done.exit_code == 0, done.output
    assert "PASSED" in done.output
    assert "pause_writing() failed" not in up.log  # what TLS has still to send when it begins


def test_who_reads_may_not_start_rounds(up: Service, deployment: Path) -> None:
    observer = deployment / "access" / "credentials" / "observer.json"
    refused = run(
        deployment, "--credentials", str(observer), "round", "start", "--image=builtin:linear",
        f"--participants={FIRST}",
    )  # fmt: skip
    assert refused.exit_code == 1
    assert "no credential for the operator is given, but for observer" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["proplet", "enroll", FIRST], "is enrolled already"),
        (["proplet", "enroll", "manager"], "that is a service's name"),
        (["proplet", "enroll", "a/b"], "is not an id"),
        (["proplet", "revoke", "nobody"], "nobody is named nobody"),
        (["proplet", "revoke", "manager"], "access rotate manager"),
        (["init", "--host", "a b"], "is a deployment already"),
    ],
)
def test_what_cannot_be_done_is_said(deployment: Path, arguments: list[str], said: str) -> None:
    done = run(deployment, *arguments)
    assert done.exit_code == 1
    assert said in done.stderr


def http_client(deployment: Path, credential: Credential | None) -> httpx.Client:
    context = ssl.create_default_context(cafile=deployment / "access" / "authority.pem")
    headers = {}
    if credential is not None:
        context = credential.tls.context()
        headers["Authorization"] = f"Bearer {credential.token}"
    base_url = f"https://127.0.0.1:{http_port(deployment)}"
    return httpx.Client(base_url=base_url, verify=context, headers=headers, timeout=60)


def test_metrics_over_https_for_who_shows_certificate_and_token(
    up: Service, deployment: Path
) -> None:
    ready = "ready: metrics at "
    up.wait_for(ready)
    [line] = [line for line in up.log.splitlines() if line.startswith(ready)]
    url = line.removeprefix(ready)
    observer = Credential.load(deployment / "access" / "credentials" / "observer.json")
    with http_client(deployment, observer) as client:
        assert "propeller_fl_build_info" in client.get(url).text
        assert client.get(url, headers={"Authorization": "Bearer x"}).status_code == 401
    with http_client(deployment, None) as stranger, pytest.raises(httpx.TransportError):
        stranger.get(url)


def test_models_over_https_for_who_shows_certificate_and_token(
    up: Service, deployment: Path
) -> None:
    desk = AccessDesk.at(deployment)
    assert desk is not None
    guest = Credential.load(desk.enroll("guest"))
    with http_client(deployment, guest) as client:
        assert client.get("/models/0").json()["version"] == 0
        assert client.get("/models", headers={"Authorization": "Bearer x"}).status_code == 401
        for path in ("/models/..%2f..%2faccess%2fidentities.json", "/models/%2e%2e/access", "/%00"):
            assert client.get(path).status_code == 404
    with http_client(deployment, None) as stranger, pytest.raises(httpx.TransportError):
        stranger.get("/healthz")  # no certificate, not one byte of HTTP

    # somebody who says nothing, not even in the handshake, keeps nobody waiting
    address = httpx.URL(client.base_url)
    with (
        socket.create_connection((address.host, address.port or 0)),
        http_client(deployment, guest) as client,
    ):
        assert client.get("/models").status_code == 200
        desk.revoke("guest")
        assert client.get("/models").status_code == 401  # on the very same connection
