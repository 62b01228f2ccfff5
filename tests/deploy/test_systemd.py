"""The systemd units: by systemd's own check where it is installed, and by what they name."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from propeller_fl import config
from propeller_fl.cli import main

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
COMMON = UNITS / "propeller-fl-.service.d" / "10-common.conf"
SERVICES = sorted(UNITS.glob("*.service"))
LONG_LIVED = [path for path in SERVICES if "Type=oneshot" not in path.read_text()]
PROGRAM = "/usr/local/bin/propeller-fl"


class _Unit(configparser.RawConfigParser):
    """Unit files in the order in which systemd reads them, where the last word counts."""

    def __init__(self, *paths: Path) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read(paths)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def environment(*paths: Path) -> dict[str, str]:
    """Every ``Environment=`` line, with the places that systemd fills in."""
    found = {}
    for path in paths:
        for name, value in re.findall(r"^Environment=(\w+)=(.*)$", path.read_text(), re.M):
            found[name] = value.replace("%S", "/var/lib").replace("%i", "one")
    return found


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_them(tmp_path: Path) -> None:
    program = tmp_path / "propeller-fl"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    for path in units.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace(PROGRAM, str(program)))
    names = [path.name.replace("@.", "@one.") for path in sorted(units.glob("propeller-fl*.*"))
             if path.is_file()]  # fmt: skip
    assert len(names) >= 10
    # our directory first, and the system's own for the targets that we name
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=units,
        env={"SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_LOG_LEVEL": "warning"},
    )
    said = [line for line in checked.stderr.splitlines() if "propeller-fl" in line]
    assert (checked.returncode, said) == (0, []), checked.stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_each_runs_a_command_that_there_is_with_settings_that_there_are(path: Path) -> None:
    unit = _Unit(path, COMMON)
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program == PROGRAM
    words = ["1" if word.startswith("${") else word for word in arguments if word != "$OPTIONS"]
    helped = CliRunner().invoke(main, [*words, "--help"])
    assert helped.exit_code == 0, helped.output
    settings = config.load(environ=environment(path, COMMON))
    assert settings.data_dir.is_relative_to("/var/lib")
    assert settings.metrics.enabled
    state = f"/var/lib/{unit['Service']['StateDirectory']}".replace("%i", "one")
    told = arguments[arguments.index("--data-dir") + 1] if "--data-dir" in arguments else ""
    assert told.replace("%S", "/var/lib").replace("%i", "one") in ("", state)
    assert told or str(settings.data_dir) == state


@pytest.mark.parametrize("path", LONG_LIVED, ids=lambda path: path.name)
def test_each_has_no_rights_it_does_not_need(path: Path) -> None:
    unit = _Unit(path, COMMON)["Service"]
    for key in (
        "NoNewPrivileges PrivateDevices PrivateTmp ProtectHome RestrictNamespaces LockPersonality "
        "ProtectKernelModules ProtectKernelTunables ProtectControlGroups RestrictSUIDSGID"
    ).split():
        assert unit[key] == "yes", key
    assert unit["ProtectSystem"] == "strict"
    assert unit["CapabilityBoundingSet"] == ""
    assert unit["User"] == "propeller-fl"
    assert (unit["Type"], unit["Restart"]) == ("notify", "on-failure")


def test_services_of_one_machine_have_metrics_ports_of_their_own() -> None:
    ports = [environment(path)["PROPELLER_FL_METRICS_HTTP_PORT"] for path in LONG_LIVED]
    fixed = [port for port in ports if port != "0"]
    assert len(fixed) == len(set(fixed)) >= 5


def test_every_timer_has_its_service() -> None:
    timers = sorted(UNITS.glob("*.timer"))
    assert timers
    for timer in timers:
        assert timer.with_suffix(".service").is_file()


def test_the_manual_names_every_unit() -> None:
    manual = (UNITS.parents[1] / "docs" / "operate.md").read_text()
    for path in UNITS.glob("propeller-fl*.*"):
        if path.is_file():
            assert f"`{path.name}`" in manual, path.name
