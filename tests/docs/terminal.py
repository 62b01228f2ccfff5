"""Where a reader types: a directory, an environment, and the services that were started there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from propeller_fl.cli import main
from tests.docs.commands import REPOSITORY, words_of
from tests.support.brokers import free_port
from tests.support.services import Service

# what may be missing on a machine that runs tests
_TOOLS = {"curl", "jq", "mosquitto_pub", "mosquitto_sub", "openssl"}
_LONG_S = 240.0


class Terminal(contextlib.ExitStack):
    """Types commands in a directory that looks like a checkout, one after the other.

    ``values`` are what stands in braces in a changed command: ports and addresses. A command that
    runs until it is stopped is a process, and ready when the next is typed; others must end with
    status 0. Most of ours are run in this process, since a start of Python costs more than they do.
    """

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._home = directory
        self._patch = patch
        self._services: list[Service] = []
        self._lacks: dict[str, str] = {}
        self.missing: set[str] = set()
        self.values = {"broker": str(free_port()), "metrics": str(free_port())}
        self.directory = directory / "checkout"
        made = shutil.ignore_patterns("node_modules", "*.wasm")
        shutil.copytree(REPOSITORY / "examples", self.directory / "examples", ignore=made)
        for plan in self.directory.glob("examples/experiments/*.toml"):
            plan.write_text(re.sub(r"timeout_s = \d+", "timeout_s = 300", plan.read_text()))
        shutil.copytree(REPOSITORY / "deploy", self.directory / "deploy")
        patch.chdir(self.directory)
        for tool in ("mosquitto_pub", "mosquitto_sub"):
            (directory / tool).write_text(f"-p {self.values['broker']}\n")
        program = Path(sys.executable).parent
        self.set(
            HOME=directory,
            XDG_CONFIG_HOME=directory,
            DOCKER_CONFIG=directory,
            PATH=f"{program}{os.pathsep}{os.environ['PATH']}",
            PWD=self.directory,
            npm_config_update_notifier="false",
            PROPELLER_FL_DATA_DIR=directory / "state",
            PROPELLER_FL_BROKER_PORT=self.values["broker"],
            PROPELLER_FL_MODEL_SERVER_MODELS_DIR=directory / "state" / "models",
            PROPELLER_FL_METRICS_HTTP_PORT=self.values["metrics"],
        )

    def __enter__(self) -> Terminal:
        return self

    def set(self, **environment: object) -> None:
        """Variables of the environment, for commands and services."""
        for name, value in environment.items():
            self._patch.setenv(name, str(value))

    def lacks(self, name: str, tool: str) -> None:
        """Commands that have ``name`` in them need a ``tool`` that is not on this machine."""
        self._lacks[name] = tool

    def type(self, text: str) -> None:
        """One command; fails with all that it said when it does not go well."""
        words = words_of(text)
        missing = {tool for tool in _TOOLS & set(words) if shutil.which(tool) is None}
        missing |= {tool for name, tool in self._lacks.items() if name in text}
        if missing:
            self.missing |= missing
        elif words[0] == "cd":
            self._patch.chdir(words[1])
        elif words[0] == "propeller-fl" and _runs_on(words[1:]):
            self._start(words[1:])
        elif words[0] == "propeller-fl" and not {"|", ">", "&&", ";"} & set(words):
            expanded = [os.path.expandvars(word) for word in words[1:]]
            done = CliRunner().invoke(main, expanded)
            assert done.exit_code == 0, f"{text}\n{done.output}{self._logs()}"
        else:
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                capture_output=True,
                text=True,
                timeout=_LONG_S,
                check=False,
            )
            assert ran.returncode == 0, f"{text}\n{ran.stdout}{ran.stderr}{self._logs()}"

    def _start(self, words: list[str]) -> None:
        """One that is the whole deployment takes the place of the one before."""
        everything = "up" in words
        if everything:
            self._stop()
        state = self._home / ("state" if everything else f"elsewhere-{len(self._services)}")
        service = Service(state, None, *words, settings=[f"broker.port={self.values['broker']}"])
        self.callback(service.stop)
        self._services.append(service)
        service.start()
        service.wait_for("ready: proplet-" if everything else "ready: broker", timeout_s=_LONG_S)

    def _stop(self) -> None:
        for service in reversed(self._services):
            service.stop()
        self._services.clear()

    def _logs(self) -> str:
        return "".join(f"\n{one.name} said:\n{one.log[-3000:]}" for one in self._services)


def command_path(words: list[str]) -> list[str]:
    """What is left of our command line without the options before the first command."""
    flags = {
        name
        for option in main.params
        if isinstance(option, click.Option) and option.is_flag
        for name in option.opts
    }
    rest = list(words)
    while rest and rest[0].startswith("-"):
        taken = 1 if rest[0] in flags or "=" in rest[0] else 2
        rest = rest[taken:]
    return rest


def _runs_on(words: list[str]) -> bool:
    """Whether a command of ours runs until it is stopped."""
    first, second = (*command_path(words), "", "")[:2]
    if first == "proplet":
        return second not in ("enroll", "revoke")
    services = {"broker", "coordinator", "dashboard", "http", "manager", "model-server", "up"}
    return first in services or (first, second) == ("experiment", "serve")
