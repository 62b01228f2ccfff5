"""SIGTERM in the middle of a round, as a system manager sends it: nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import RunningBroker
from tests.support.brokers import nats as nats
from tests.support.peers import peer_at
from tests.support.rounds import PROPLETS, open_round, send_update, wait_accepted, wait_completed
from tests.support.services import Service
from tests.support.wait import wait_until


class Supervisor:
    """Hears what services say to the system manager, by process."""

    def __init__(self) -> None:
        self.name = f"@propeller-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{self.name[1:]}")
        self._heard: list[tuple[int, str]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def said(self, pid: int, words: str) -> bool:
        return any(at == pid and words in said.splitlines() for at, said in list(self._heard))

    def _listen(self) -> None:
        while True:
            data, control, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
            pid = int.from_bytes(control[0][2][:4], "little")
            self._heard.append((pid, data.decode()))


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.name)
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    return supervisor


@contextlib.contextmanager
def supervised(services: list[Service], supervisor: Supervisor) -> Iterator[None]:
    """All of them, once the system manager would go on; stopped by it, each with status 0."""
    try:
        for service in services:
            service.start()
        for service in services:
            service.wait_ready()
            for words in ("READY=1", "WATCHDOG=1"):
                what = f"{service.name} says {words}"
                wait_until(lambda s=service, w=words: supervisor.said(s.pid, w), 60, what)  # type: ignore[misc]
        yield
        for service in services:
            assert not supervisor.said(service.pid, "STOPPING=1")
            os.kill(service.pid, signal.SIGTERM)
        for service in services:
            assert service.wait_end() == 0, service.log
            what = f"{service.name} says that it stops"
            wait_until(lambda s=service: supervisor.said(s.pid, "STOPPING=1"), 60, what)  # type: ignore[misc]
    finally:
        for service in services:
            service.stop(signal.SIGKILL)


def test_a_round_goes_on_after_every_service_was_stopped_in_the_middle(
    nats: RunningBroker, tmp_path: Path, supervisor: Supervisor
) -> None:
    names = ("manager", "coordinator", "model-server")
    services = [Service(tmp_path / name, nats.address, name) for name in names]
    first, second, third = PROPLETS
    with peer_at(nats.address) as peer:
        with supervised(services, supervisor):
            open_round(peer)
            send_update(peer, first)
            wait_accepted(peer, first)
        send_update(peer, second)  # while nobody is there
        with supervised(services, supervisor):
            wait_accepted(peer, second)
            send_update(peer, third)
            wait_completed(peer)
    assert not [line for service in services for line in service.log.splitlines()
                if " ERROR " in line or " CRITICAL " in line]  # fmt: skip
