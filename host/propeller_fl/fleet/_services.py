"""The broker and the services that a simulated fleet talks to, each a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import psutil

from propeller_fl.errors import ConfigError, LinkError
from propeller_fl.fleet._plan import MODEL, FleetPlan
from propeller_fl.link import BrokerAddress, BrokerSettings, ClusterNode, EmbeddedBroker

SERVICES: Final = ("model-server", "coordinator", "manager")
_READY_S: Final = 180.0
_POLL_S: Final = 0.02
_BROKER_BYTES: Final = 512 * 1024 * 1024
_SESSION_BYTES: Final = 256 * 1024  # at its default limit the broker collects garbage all day long
_CALM: Final = 0.15  # of a core, by all services together
_CALM_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: memory now, and processor time since its start."""

    rss_bytes: int
    cpu_s: float


class Services:
    """A context manager: everything runs inside, in ``plan.output``.

    Coordinator, manager and model server are the commands that a deployment runs, with their
    default settings but for ports, directories, the first model, and how long a proplet may be
    silent; they log warnings only.
    """

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, psutil.Process] = {}
        self._brokers = _brokers(plan)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for name, broker in self._brokers.items():
                broker.start()
                stack.callback(broker.stop)
                assert broker.pid is not None
                self._processes[name] = psutil.Process(broker.pid)
            self._await_brokers()
            logs = {name: self._start(stack, name) for name in SERVICES}
            for name, log in logs.items():
                self._await_ready(name, log)
            self._processes["fleet"] = psutil.Process()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def address(self) -> BrokerAddress:
        """Of all nodes."""
        first, *others = (broker.address for broker in self._brokers.values())
        return replace(first, others=tuple((one.host, one.port) for one in others))

    def usage(self) -> Mapping[str, Usage]:
        """Of each process, this one as ``fleet``. Raises :class:`LinkError` when one has ended."""
        found = {}
        for name, process in self._processes.items():
            try:
                times = process.cpu_times()
                found[name] = Usage(process.memory_info().rss, times.user + times.system)
            except psutil.NoSuchProcess:
                raise LinkError(
                    f"the {name} has ended", hint=f"its log is in {self._plan.output}"
                ) from None
        return found

    def wait_calm(self, timeout_s: float) -> bool:
        """Until broker and services have worked off what was sent: a round is then measured
        alone. Whether that is so in time."""
        give_up_s = time.monotonic() + timeout_s
        before, before_s = self._busy_s(), time.monotonic()
        while time.monotonic() < give_up_s:
            time.sleep(_CALM_LOOK_S)
            now, now_s = self._busy_s(), time.monotonic()
            if now - before < _CALM * (now_s - before_s):
                return True
            before, before_s = now, now_s
        return False

    def _busy_s(self) -> float:
        return sum(usage.cpu_s for usage in self.usage().values())

    def _start(self, stack: contextlib.ExitStack, name: str) -> Path:
        plan = self._plan
        settings = {
            "model_server.models_dir": plan.output / "models",
            "model_server.http_port": 0,
            "model_server.initial_model": MODEL,
            "model_server.initial_format": "cbor",
            "coordinator.model_format": "cbor",
            "proplet.heartbeat_s": plan.heartbeat_s,
            "manager.liveness_timeout_s": 4 * plan.heartbeat_s,
        }
        command = [sys.executable, "-m", "propeller_fl", "--data-dir", str(plan.output)]
        command += ["--broker", str(self.address)]
        command += ["--log-level", "warning"]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        path = plan.output / f"{name}.log"
        with path.open("wb") as log:
            child = subprocess.Popen([*command, name], stdout=log, stderr=log)
        stack.callback(_end, child)
        self._processes[name] = psutil.Process(child.pid)
        return path

    def _await_brokers(self) -> None:
        give_up_s = time.monotonic() + _READY_S
        while not all(broker.takes_sessions for broker in self._brokers.values()):
            if time.monotonic() > give_up_s:
                raise LinkError(
                    f"the nodes of the broker have not met within {_READY_S:g} s",
                    hint=f"their logs are in {self._plan.output}",
                )
            time.sleep(_POLL_S)

    def _await_ready(self, name: str, log: Path) -> None:
        give_up_s = time.monotonic() + _READY_S
        while b"ready: broker" not in (said := log.read_bytes()):
            if self._processes[name].status() == psutil.STATUS_ZOMBIE:
                raise ConfigError(f"the {name} did not start: {said.decode(errors='replace')}")
            if time.monotonic() > give_up_s:
                raise LinkError(f"the {name} is not ready after {_READY_S:g} s", hint=str(log))
            time.sleep(_POLL_S)


def _brokers(plan: FleetPlan) -> dict[str, EmbeddedBroker]:
    """One, or the nodes of a cluster, by the names of their processes."""
    memory_bytes = _BROKER_BYTES + plan.session_count * _SESSION_BYTES // plan.nodes
    settings = BrokerSettings(port=0, memory_bytes=memory_bytes)
    if plan.nodes == 1:
        return {"broker": EmbeddedBroker(plan.output / "broker", settings)}
    names = [f"broker-{number}" for number in range(1, plan.nodes + 1)]
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        places = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    routes = dict(zip(names, places, strict=True))
    return {
        name: EmbeddedBroker(plan.output / name, settings, node=ClusterNode(name, routes))
        for name in names
    }


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
