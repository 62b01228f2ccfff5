"""A deployment of real processes, any of which may be killed at any time and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from propeller_fl import datasets
from propeller_fl.link import BrokerAddress
from propeller_fl.wire import Format
from tests.support.brokers import RunningBroker
from tests.support.wait import wait_until

PROPLETS = ("proplet-1", "proplet-2", "proplet-3")
SERVICES = ("model-server", "coordinator", "manager")
HOST = "proplets"
"""The process of all proplets that have none of their own."""

_ROOT = Path(__file__).parents[2]


class Process:
    """A service, or proplets, as ``python -m propeller_fl ARGUMENTS``."""

    def __init__(
        self,
        name: str,
        directory: Path,
        address: BrokerAddress,
        arguments: Sequence[str],
        settings: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        ours = (
            f"model_server.models_dir={directory / 'models'}",
            "model_server.http_port=0",
            "proplet.resend_after_s=0.5",
            "proplet.heartbeat_s=1",
            f"proplet.data={directory / 'data'}",
        )
        self._arguments = [
            "--data-dir", str(directory), "--broker", str(address),
            *(f"--set={setting}" for setting in (*ours, *settings)),
            *arguments,
        ]  # fmt: skip
        self._child: subprocess.Popen[bytes] | None = None
        self._said_before = 0  # bytes in the log from earlier starts
        self._log.touch()

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self, kill_at: str = "", *, armed: bool = False) -> None:
        """Start it, with ``kill_at`` so that it will kill itself there; see ``killed_at``."""
        self._said_before = self._log.stat().st_size
        way = ["propeller_fl"]
        if kill_at:
            way = ["tests.faults.killed_at", *(["--armed"] if armed else []), kill_at, "--"]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", *way, *self._arguments], cwd=_ROOT, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        self._wait_for("ready: broker")

    def arm(self) -> None:
        """From now on passages of the point it was started with count."""
        os.kill(self.pid, signal.SIGUSR1)
        self._wait_for("armed")

    def wait_killed_at(self, point: str) -> None:
        """Until it has killed itself there."""
        try:
            status = self._running().wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} never came to {point}: {self._log}") from None
        assert status == -signal.SIGKILL, f"{self.name} ended with {status}: {self._log}"
        assert self._has_said(f"killed at {point}"), self._log

    def kill(self) -> None:
        child = self._running()
        child.kill()
        child.wait(10)

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    def _has_said(self, beginning: str) -> bool:
        """Whether there is a line of it since it was started last."""
        with self._log.open("rb") as log:
            log.seek(self._said_before)
            return any(line.startswith(beginning.encode()) for line in log)

    def _wait_for(self, beginning: str) -> None:
        def said() -> bool:
            status = self._running().poll()
            found = self._has_said(beginning)
            assert found or status is None, f"{self.name} ended with {status}: {self._log}"
            return found

        wait_until(said, 60, f"{self.name} says {beginning!r}, see {self._log}")


class Processes:
    """The broker, the services, the proplets: each by name, and HOST.

    ``apart`` are the proplets that have a process of their own, the others share one. ``ways``: the
    address by which a member reaches the broker, where that is not the broker's own.
    """

    def __init__(
        self,
        directory: Path,
        broker: RunningBroker | BrokerAddress,
        *,
        proplets: Sequence[str] = PROPLETS,
        apart: Sequence[str] = (),
        ways: Mapping[str, BrokerAddress] | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self._broker = broker
        address = broker if isinstance(broker, BrokerAddress) else broker.address
        commands = {name: [name] for name in SERVICES}
        commands |= {name: ["proplet", name] for name in apart}
        hosted = [proplet_id for proplet_id in proplets if proplet_id not in apart]
        if hosted:
            commands[HOST] = ["proplet", *hosted]
        self._members = {
            name: Process(name, directory, (ways or {}).get(name, address), arguments, settings)
            for name, arguments in commands.items()
        }

    def __getitem__(self, name: str) -> Process:
        return self._members[name]

    def start(self) -> None:
        """The services, then the proplets, which introduce themselves to a manager that hears."""
        services = [self._members[name] for name in SERVICES]
        for members in (services, [m for m in self._members.values() if m not in services]):
            for member in members:
                member.start()
            for member in members:
                member.wait_ready()

    def kill_and_restart(self, name: str) -> None:
        """SIGKILL, then start again at once; does not wait until it is ready."""
        victim = self._broker if name == "broker" else self._members[name]
        assert not isinstance(victim, BrokerAddress), "its nodes are the caller's to kill"
        victim.kill()
        victim.start()

    def stop(self) -> None:
        for member in self._members.values():
            member.stop()


def write_data(directory: Path, proplet_ids: Sequence[str]) -> None:
    """Each proplet's share of a real data set, ``{proplet_id}.json``."""
    directory.mkdir()
    dataset = datasets.load("tumors")
    parts = datasets.iid(dataset, len(proplet_ids))
    for proplet_id, part in zip(proplet_ids, parts, strict=True):
        (directory / f"{proplet_id}.json").write_bytes(dataset.take(part).encode(Format.JSON))


@contextmanager
def running(
    directory: Path,
    broker: RunningBroker | BrokerAddress,
    *,
    proplets: Sequence[str] = PROPLETS,
    apart: Sequence[str] = (),
    boards: Sequence[str] = (),
    ways: Mapping[str, BrokerAddress] | None = None,
    settings: Sequence[str] = (),
) -> Iterator[Processes]:
    """A deployment, ready, on data of its own; ended afterwards, but for the broker.

    ``broker`` may be where one is, such as a cluster.
    ``boards`` have a share of the data as well, and are the caller's to start.
    """
    write_data(directory / "data", (*proplets, *boards))
    processes = Processes(
        directory, broker, proplets=proplets, apart=apart, ways=ways, settings=settings
    )
    try:
        processes.start()
        yield processes
    finally:
        processes.stop()
