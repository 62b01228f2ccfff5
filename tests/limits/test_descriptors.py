"""No file descriptor is left, in any process; then there are some again."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from pathlib import Path

from tests.support.brokers import RunningBroker
from tests.support.peers import Peer, peer_at
from tests.support.rounds import PROPLETS, start_message
from tests.support.services import Service, running
from tests.support.wait import wait_until

from .conftest import Deployment

BUSY = 0.5  # of a core, at most, while nothing can be done


def test_a_round_waits_for_descriptors(nats: RunningBroker, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, nats)
    services = deployment.services
    with running(*services), contextlib.ExitStack() as stack:
        peer = stack.enter_context(peer_at(nats.address))
        peer.subscribe("fl/rounds/r-1/+", "fl/models/+", "control/proplet/alive")
        peer.wait_for("fl/models/global_model_v0", timeout_s=30)
        wait_until(
            lambda: heard_of(peer) == set(PROPLETS), 30, "the manager has heard of all proplets"
        )
        for service in services:
            limit_descriptors(service, 3)
        used_s = {service: cpu_s(service) for service in services}
        began_s = time.monotonic()

        [url] = {word for word in deployment.model_server.log.split() if word.startswith("http:")}
        host, port = url.removeprefix("http://").removesuffix("/models").split(":")
        clients = [
            stack.enter_context(socket.create_connection((host, int(port)), 30)) for _ in range(5)
        ]
        for client in clients:
            client.sendall(b"GET /models/0 HTTP/1.1\r\nHost: x\r\n\r\n")
        deployment.model_server.wait_for("HTTP clients wait: Too many open files")
        peer.publish("fl/rounds/start", start_message())
        deployment.manager.wait_for("nothing is launched: ")
        assert "Too many open files" in deployment.manager.log
        assert "ulimit -n" in deployment.manager.log

        limit_descriptors(deployment.manager)
        deployment.proplets.wait_for("a task waits: ")
        assert "Too many open files" in deployment.proplets.log

        nats.kill()
        nats.start()
        for service in services:
            if service is not deployment.manager:
                service.wait_for("raise the limit on open files (ulimit -n)")
        elapsed_s = time.monotonic() - began_s
        for service in services:
            assert service.running
            assert cpu_s(service) - used_s[service] < BUSY * elapsed_s, f"{service.name} is busy"

        for service in services:
            limit_descriptors(service)
        for client in clients:
            client.settimeout(60)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=80)
        assert (complete["status"], complete["num_updates"]) == ("complete", 3)
        latest = tmp_path / "models" / "global_model_v1.json"
        wait_until(latest.exists, 60, "the model server has the model")


def heard_of(peer: Peer) -> set[str]:
    """The proplets whose heartbeat is out."""
    return {json.loads(alive)["proplet_id"] for alive in peer.heard("control/proplet/alive")}


def limit_descriptors(service: Service, count: int | None = None) -> None:
    """Let no more be opened than the number says; ``None``: as many as the system allows."""
    _, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (count or hard, hard))


def cpu_s(service: Service) -> float:
    """Processor time it has used so far."""
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
