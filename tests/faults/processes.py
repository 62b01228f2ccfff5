"""A deployment of real processes, any of which may be killed at any time and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from propeller_fl import datasets
from propeller_fl.link import BrokerAddress, BrokerSettings, EmbeddedBroker
from propeller_fl.wire import Format
from tests.support.wait import wait_until

PROPLETS = ("proplet-1", "proplet-2", "proplet-3")
SERVICES = ("model-server", "coordinator", "manager")


class Process:
    """One service or proplet as ``python -m propeller_fl …``."""

    def __init__(self, directory: Path, address: BrokerAddress, *arguments: str) -> None:
        self.name = arguments[-1]
        self._log = directory / f"{self.name}.log"
        self._command = [
            sys.executable, "-m", "propeller_fl", "--data-dir", str(directory),
            "--broker", f"mqtt://{address.host}:{address.port}",
            "--set", f"model_server.models_dir={directory / 'models'}",
            "--set", "model_server.http_port=0",
            "--set", "proplet.resend_after_s=0.5",
            "--set", f"proplet.data={directory / 'data'}",
            *arguments,
        ]  # fmt: skip
        self._child: subprocess.Popen[bytes] | None = None
        self._log.touch()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_ready(self, starts: int) -> None:
        def ready() -> bool:
            assert self._child is not None
            status = self._child.poll()
            assert status is None, f"{self.name} ended with {status}: {self._log}"
            return self._log.read_text().count("ready: broker") >= starts

        wait_until(ready, 60, f"{self.name} is ready, see {self._log}")

    def kill(self) -> None:
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait(10)

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait(10)


class Processes:
    """The broker, the services, the proplets: each by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        write_data(directory / "data")
        settings = BrokerSettings(port=0, redeliver_after_s=1.0)
        self._broker = EmbeddedBroker(directory / "broker", settings)
        self._broker.start()
        self.address = self._broker.address
        self._members = {name: Process(directory, self.address, name) for name in SERVICES} | {
            name: Process(directory, self.address, "proplet", name) for name in PROPLETS
        }

    def start(self) -> None:
        for names in (SERVICES, PROPLETS):
            for name in names:
                self._members[name].start()
            for name in names:
                self._members[name].wait_ready(starts=1)

    def kill_and_restart(self, name: str) -> None:
        """SIGKILL, then start again at once; does not wait until it is ready."""
        if name == "broker":
            assert self._broker.pid is not None
            os.kill(self._broker.pid, signal.SIGKILL)
            wait_until(lambda: not self._broker.running, 10, "the killed broker is gone")
            self._broker.start()
        else:
            self._members[name].kill()
            self._members[name].start()

    def stop(self) -> None:
        for member in self._members.values():
            member.stop()
        self._broker.stop()


def write_data(directory: Path) -> None:
    """Each proplet's share of a real data set, ``{proplet_id}.json``."""
    directory.mkdir()
    dataset = datasets.load("tumors")
    for name, part in zip(PROPLETS, datasets.iid(dataset, len(PROPLETS)), strict=True):
        (directory / f"{name}.json").write_bytes(dataset.take(part).encode(Format.JSON))


@contextmanager
def running(directory: Path) -> Iterator[Processes]:
    processes = Processes(directory)
    try:
        processes.start()
        yield processes
    finally:
        processes.stop()
