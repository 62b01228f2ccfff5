"""The compose files: by Docker Compose where it is installed, and by what they name in any case."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from propeller_fl import config
from propeller_fl.cli import main
from propeller_fl.supermq import KEY_NAME, Plan
from tests.deploy import compose
from tests.deploy.compose import DEPLOY, REPOSITORY

FILES = ["compose-minimal.yaml", "compose.yaml", "compose-external.yaml"]
# what compose.yaml finds in the file it is put over
SUPERMQS = {"users", "domains", "channels", "clients", "mqtt-adapter"}
# what our commands make, and what a clone of SuperMQ brings
MADE = {f"./keys/{KEY_NAME}", "./secrets"}
OF_SUPERMQ = {
    "docker/spicedb/schema.zed",
    "docker/permission.yaml",
    "docker/templates/reset-password-email.tmpl",
    "docker/templates/verification-email.tmpl",
}


@pytest.fixture(params=FILES)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return compose.load(DEPLOY / request.param)


def services(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose.resolved(document["services"], compose.example())
    return found


def is_ours(service: dict[str, Any]) -> bool:
    return str(service["image"]).startswith("propeller-fl:")


def docker_compose() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version"], capture_output=True, check=False)
            if asked.returncode == 0 and b"version v1" not in asked.stdout:
                return command
    pytest.skip("there is no Docker Compose here; what the files name is checked all the same")


@pytest.mark.parametrize("name", FILES)
def test_docker_compose_takes_it(name: str, tmp_path: Path) -> None:
    command = [*docker_compose(), "--env-file", str(DEPLOY / ".env.example")]
    if name == "compose.yaml":
        base = tmp_path / "base.yaml"
        under = "".join(f"  {service}: {{image: x}}\n" for service in sorted(SUPERMQS))
        base.write_text(f"services:\n{under}")
        command += ["-f", str(base)]
    command += ["-f", str(DEPLOY / name), "config", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_every_variable_is_in_the_example_with_its_default(document: dict[str, Any]) -> None:
    example = compose.example()
    for name, default in compose.variables(document):
        assert name in example
        assert default in (None, example[name]), name


def test_the_example_has_no_variable_that_nobody_reads() -> None:
    read = {name for file in FILES for name, _ in compose.variables(compose.load(DEPLOY / file))}
    assert set(compose.example()) == read


def test_every_mounted_file_is_there(document: dict[str, Any]) -> None:
    volumes = set(document.get("volumes") or {})
    supermq = compose.example()["SUPERMQ_DIR"]
    for name, service in services(document).items():
        targets = [target for _, target in compose.mounts(service)]
        assert len(targets) == len(set(targets)), name
        for source, _ in compose.mounts(service):
            if not source.startswith((".", "/")):
                assert source in volumes, f"{name}: there is no volume {source}"
            elif source.startswith(supermq):
                assert source.removeprefix(f"{supermq}/") in OF_SUPERMQ
            elif source not in MADE:
                assert (DEPLOY / source).exists(), f"{name}: {source}"
    used = {
        source for service in services(document).values() for source, _ in compose.mounts(service)
    }
    assert volumes <= used


def test_what_waits_for_another_can_see_it_come(document: dict[str, Any]) -> None:
    found = services(document)
    outside = SUPERMQS if "supermq-base-net" in document.get("networks", {}) else set()
    for name, service in found.items():
        assert set(service.get("networks", [])) <= set(document.get("networks") or {}), name
        for other, condition in compose.conditions(service).items():
            if other in outside:
                assert condition == "service_started"
                continue
            assert other in found, f"{name} waits for {other}"
            if condition == "service_healthy":
                assert found[other]["healthcheck"]["test"]
            elif condition == "service_completed_successfully":
                assert found[other].get("restart") != "always"
            else:
                assert condition == "service_started"


def test_nobody_waits_in_a_circle(document: dict[str, Any]) -> None:
    waits = {name: set(compose.conditions(item)) for name, item in services(document).items()}
    while free := {name for name, others in waits.items() if not others & set(waits)}:
        waits = {name: others for name, others in waits.items() if name not in free}
    assert not waits


def test_no_port_of_the_host_is_taken_twice_or_opened_to_the_network(
    document: dict[str, Any],
) -> None:
    found = services(document)
    ports = [port for service in found.values() for port in compose.host_ports(service)]
    assert len(ports) == len(set(ports))
    for service in found.values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_images_are_of_a_release(document: dict[str, Any]) -> None:
    for service in services(document).values():
        _, colon, tag = service["image"].rpartition(":")
        assert colon
        assert tag != "latest"


def test_our_services_run_commands_there_are_with_settings_that_provisioning_writes(
    document: dict[str, Any],
) -> None:
    names = Plan(Path(), "mqtt://b", tuple(compose.example()["FL_PROPLETS"].split(","))).names
    read = set()
    for service in services(document).values():
        if not is_ours(service):
            continue
        assert (REPOSITORY / service["build"]["dockerfile"]).is_file()
        line = [*service.get("entrypoint", ["propeller-fl"])[1:], *service.get("command", [])]
        result = CliRunner().invoke(main, [*line, "--help"])
        assert result.exit_code == 0, f"{line}: {result.output}"
        read |= {Path(word).stem for word in line if word.startswith("/secrets/")}
        for variable in service.get("environment", {}):
            if variable.startswith(config.ENV_PREFIX):
                config.load(environ={variable: service["environment"][variable]})
    assert read == set(names)


def test_the_minimal_stack_has_what_the_demo_before_us_had() -> None:
    found = services(compose.load(DEPLOY / "compose-minimal.yaml"))
    wanted = "spicedb auth domains clients channels rabbitmq nats mqtt-adapter manager coordinator"
    assert {*wanted.split(), "model-server", "proplet-1", "proplet-2", "proplet-3"} <= set(found)
    # one of SuperMQ's that is told of another looks for it by its name
    for name, service in found.items():
        for variable, value in service.get("environment", {}).items():
            if variable.startswith("SMQ_") and variable.endswith(("_URL", "_HOST")):
                host = re.sub(r"^\w+://", "", value).partition(":")[0]
                assert host in found or host == "groups", f"{name}: {variable}"


def test_the_image_is_made_of_files_that_are_there_and_sent() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    sent = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    for source in copied:
        assert (REPOSITORY / source).exists()
        assert f"!{source}" in sent
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "host"} <= copied
    environ = dict(re.findall(r"(PROPELLER_FL_\w+)=(\S+)", "\n".join(lines)))
    settings = config.load(environ=environ)
    assert str(settings.data_dir) == "/data"
    assert str(settings.model_server.models_dir) == "/models"


def test_secrets_are_not_committed() -> None:
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/keys/", "deploy/secrets/"} <= set(ignored)
