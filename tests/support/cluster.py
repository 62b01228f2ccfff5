"""A broker of three nodes as ``propeller-fl init --node`` makes it: processes on this machine.

with cluster(tmp_path / "farm", ["proplet-1"]) as three: …
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from propeller_fl.access import AccessDesk, AccessRole, Credential, NodePlace, Plan
from propeller_fl.link import BrokerAddress

from .services import Service
from .wait import wait_until

NAMES = ("n1", "n2", "n3")
JOINED = "is in the cluster"
_PATIENCE_S = 200
_LOWEST_PORT = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Cluster:
    """Three nodes that know their users and speak TLS, with their directories in ``directory``."""

    def __init__(self, directory: Path, proplets: Sequence[str]) -> None:
        ports = steady_ports(2 * len(NAMES))
        places = [NodePlace(name, "127.0.0.1", ports.pop(), ports.pop()) for name in NAMES]
        self.desk = AccessDesk.init(directory, Plan(nodes=tuple(places)), proplets)
        self._nodes = {
            name: Service(self.desk.node_directory(name), None, "broker") for name in NAMES
        }

    @property
    def address(self) -> BrokerAddress:
        """All of it, without a login."""
        return replace(self.keeper, username=None, password=None)

    @property
    def keeper(self) -> BrokerAddress:
        """All of it, as one who may do everything."""
        path = self.desk.path_of(AccessRole.BROKER.value, AccessRole.BROKER)
        return Credential.load(path).address()

    def at(self, name: str) -> BrokerAddress:
        """One node, as one who may do everything."""
        return self.keeper.places[NAMES.index(name)]

    def start(self, *names: str) -> None:
        """Until each of them is one of the cluster, with all that the others have."""
        told = {name: self._nodes[name].log.count(JOINED) for name in names}
        for name in names:
            self._nodes[name].start()
        for name, before in told.items():
            self._nodes[name].wait_for(JOINED, count=before + 1, timeout_s=_PATIENCE_S)

    def kill(self, name: str) -> None:
        """SIGKILL for its nats-server, after which its keeper ends as well."""
        state = self.desk.node_directory(name) / "broker"
        os.kill(int((state / "broker.pid").read_text()), signal.SIGKILL)
        assert self._nodes[name].wait_end() != 0

    def forget_feeds(self, name: str) -> list[str]:
        """Take away what brings retained messages to whichever nodes, by the node's own protocol;
        returns the consumers' names."""
        stream = "$MQTT_rmsgs"
        found: list[str] = self._ask(name, f"$JS.API.CONSUMER.NAMES.{stream}")["consumers"]
        for consumer in found:
            self._ask(name, f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}")
        return found

    def _ask(self, name: str, subject: str) -> dict[str, Any]:
        """A request to JetStream, and its answer."""
        port = int(self._configured(name, r'^"port": ([0-9]+)'))
        login = {"user": self.keeper.username, "pass": self.keeper.password, "verbose": False}
        with socket.create_connection(("127.0.0.1", port), _PATIENCE_S) as sock:
            said = f"CONNECT {json.dumps(login)}", "SUB answer 1", f"PUB {subject} answer 0", "", ""
            sock.sendall("\r\n".join(said).encode())
            with sock.makefile("rb") as lines:
                answer = next(line for line in lines if line.startswith(b"MSG "))
                found: dict[str, Any] = json.loads(lines.read(int(answer.split()[-1])))
        assert "error" not in found, found
        return found

    def _configured(self, name: str, what: str) -> str:
        config = (self.desk.node_directory(name) / "broker" / "broker.conf").read_text()
        found = re.search(what, config, re.MULTILINE)
        assert found is not None
        return found[1]

    def stop(self) -> None:
        for node in self._nodes.values():
            node.stop(signal.SIGKILL)  # an orderly end hands its streams over, one by one

    def node_of(self, client: str) -> str:
        """Where the session is whose client id begins so."""

        def find() -> str:
            return next((name for name in NAMES if self._has(name, client)), "")

        return wait_until(find, _PATIENCE_S, f"{client} has a session")

    def _has(self, name: str, client: str) -> bool:
        place = self._configured(name, r'"http": "([^"]+)"')
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://{place}/connz?limit=1000", timeout=10) as said:
                sessions = json.loads(said.read())["connections"]
            return any(one.get("mqtt_client", "").startswith(client) for one in sessions)
        return False


@contextlib.contextmanager
def cluster(directory: Path, proplets: Sequence[str]) -> Iterator[Cluster]:
    """All three, ready."""
    made = Cluster(directory, proplets)
    try:
        made.start(*NAMES)
        yield made
    finally:
        made.stop()


def steady_ports(count: int) -> list[int]:
    """Free ports that no outgoing connection gets, since a node comes back to its own."""
    highest = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(range(_LOWEST_PORT, highest), 200):
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("there are no free ports")
