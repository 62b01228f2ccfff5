"""A whole round of services that know nothing but the files that provisioning wrote, on a broker
that lets in SuperMQ's clients alone, and to their channel alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner

from propeller_fl import config
from propeller_fl.cli import main
from propeller_fl.login import broker_address
from propeller_fl.operator import Operator
from propeller_fl.wire import Outcome, RoundComplete, RoundStart
from tests.supermq.server import FakeSuperMq
from tests.support.brokers import RunningBroker, mosquitto
from tests.support.services import Service, running


def provision(fake: FakeSuperMq, directory: Path, broker: str) -> str:
    """Returns the topic prefix."""
    result = CliRunner(env={"SMQ_USERS_ADMIN_PASSWORD": fake.password}).invoke(
        main,
        ["supermq", "provision", str(directory), "--url", fake.url, "--broker", broker,
         "--proplets", "proplet-1"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return result.output.split()[-1]


@pytest.fixture
def secrets(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "secrets"
    with FakeSuperMq() as fake:
        prefix = provision(fake, directory, "mqtt://127.0.0.1:1")
        with _adapter(fake, prefix, tmp_path) as broker:
            provision(fake, directory, f"mqtt://127.0.0.1:{broker.address.port}")
            yield directory


def _adapter(
    fake: FakeSuperMq, prefix: str, directory: Path
) -> AbstractContextManager[RunningBroker]:
    """A broker with the rules of SuperMQ's MQTT adapter: the id as user, the key as password."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords, rules = directory / "passwords", directory / "rules"
    passwords.touch(mode=0o600)
    lines = []
    for client in fake.clients:
        secret = client["credentials"]["secret"]
        command = ["mosquitto_passwd", "-b", str(passwords), client["id"], secret]
        subprocess.run(command, check=True, capture_output=True)
        lines += [f"user {client['id']}", f"topic readwrite {prefix}/#"]
    rules.write_text("\n".join(lines) + "\n")
    return mosquitto(directory, config=f"password_file {passwords}\nacl_file {rules}\n")


def test_a_round_runs_on_what_was_provisioned(secrets: Path, tmp_path: Path) -> None:
    def service(name: str, *command: str) -> Service:
        file = str(secrets / f"{name}.toml")
        quick = ["proplet.heartbeat_s=0.5"]
        return Service(tmp_path / name, None, "--config", file, *command, settings=quick)

    services = [
        service("coordinator", "coordinator"),
        service("manager", "manager"),
        service("model-server", "model-server"),
        service("proplet-1", "proplet"),
    ]
    start = RoundStart(
        round_id="r-1",
        model_uri="fl/models/global_model_v0",
        task_wasm_image="builtin:linear",
        participants=("proplet-1",),
        hyperparams={"epochs": 1},
        k_of_n=1,
        timeout_s=100.0,
    )
    with running(*services):
        settings = config.load(secrets / "operator.toml", environ={})
        address = broker_address(settings.broker)
        with Operator(address, settings.topics, timeout_s=60) as operator:
            operator.start_round(start)
            events = list(operator.watch(start.round_id, 120))
    assert isinstance(events[-1], RoundComplete)
    assert events[-1].status is Outcome.COMPLETE, "\n".join(each.log for each in services)
