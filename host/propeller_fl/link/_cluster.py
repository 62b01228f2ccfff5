"""A broker of several nodes: what nats-server is told of the others, and when it is one of them.

Every node has all of it: sessions, what waits for them and what is retained lie on three of them,
and each takes sessions. A node alone takes none: with three, two must be there.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import BrokerError, ConfigError
from ._address import is_loopback
from ._asking import ask

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_USER = "node"
_REPLICAS = 3  # of each message and session; more cost more and survive more
_TLS_HANDSHAKE_S = 15  # on a busy machine
_LOGIN_S = 15
_POLL_S = 0.2
_SAY_EVERY = 150  # polls
_KEEP_EVERY_S = 5.0
ROUTE_PORT = 6222


@dataclass(frozen=True, slots=True)
class RouteSecurity:
    """``authority``  PEM file of who signed the nodes' certificates, which are for clients too
    ``password``      that all nodes know, and nobody else
    """

    authority: Path
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """Which node a broker is, and where all of them, by name, wait for each other: ``host:port``.

    Raises :class:`ConfigError` for names and places that make no cluster.
    """

    name: str
    nodes: Mapping[str, str]

    def __post_init__(self) -> None:
        names = ", ".join(self.nodes)
        if len(self.nodes) < 3 or len(self.nodes) % 2 == 0:
            raise ConfigError(
                f"a cluster of {len(self.nodes)} nodes ({names})",
                hint="three or five: more than half of them must live",
            )
        if self.name not in self.nodes:
            raise ConfigError(f"the node {self.name!r} is none of the cluster's: {names}")
        for name in self.nodes:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"a node's name is {name!r}", hint="up to 32 letters, digits, - and _"
                )
        if len({_place(route) for route in self.nodes.values()}) < len(self.nodes):
            raise ConfigError("two nodes of the cluster are at the same place", hint=names)

    @property
    def port(self) -> int:
        """Where this one waits for the others."""
        return _place(self.nodes[self.name])[1]

    @property
    def is_loopback(self) -> bool:
        """Whether what goes between the nodes stays on this machine."""
        return all(is_loopback(_place(route)[0]) for route in self.nodes.values())

    def config(
        self, host: str, security: RouteSecurity | None, identity: tuple[Path, Path] | None
    ) -> dict[str, object]:
        """nats-server's ``cluster``; ``identity`` is this node's certificate and key."""
        login = f"{_USER}:{security.password}@" if security else ""
        others = (route for name, route in self.nodes.items() if name != self.name)
        found: dict[str, object] = {
            "name": "propeller-fl",
            "host": host,
            "port": self.port,
            "no_advertise": True,  # clients are told where the nodes are by their own settings
            "routes": [f"nats-route://{login}{route}" for route in others],
        }
        if security is not None and identity is not None:
            found["authorization"] = {
                "user": _USER,
                "password": security.password,
                "timeout": _LOGIN_S,
            }
            found["tls"] = {
                "cert_file": str(identity[0]),
                "key_file": str(identity[1]),
                "ca_file": str(security.authority),
                "verify": True,
                "timeout": _TLS_HANDSHAKE_S,
            }
        return found

    def mqtt(self) -> dict[str, object]:
        """What ``mqtt`` says beside what it says of a broker alone."""
        return {"stream_replicas": _REPLICAS, "consumer_replicas": _REPLICAS}


class Settling(threading.Thread):
    """Calls ``settle`` until it agrees, which it does once enough of the nodes are there; and from
    then on ``keep`` from time to time, until it is stopped."""

    def __init__(self, name: str, settle: Callable[[], bool], keep: Callable[[], object]) -> None:
        super().__init__(name="broker-settling", daemon=True)
        self._node = name
        self._settle = settle
        self._keep = keep
        self._stopping = threading.Event()
        self.settled = False

    def stop(self) -> None:
        """Ask no more; one attempt may be under way still."""
        self._stopping.set()

    def run(self) -> None:
        self._join()
        while not self._stopping.wait(_KEEP_EVERY_S):
            self._keep()

    def _join(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                if self._settle():
                    self.settled = True
                    _log.info("node %s is in the cluster, and takes sessions", self._node)
                    return
            except BrokerError as error:
                _log.debug("%s", error)
            if tries % _SAY_EVERY == 0:
                _log.info("node %s waits for the other nodes", self._node)
            tries += 1
            self._stopping.wait(_POLL_S)


def has_joined(port: int) -> bool:
    """Whether the nats-server with this HTTP port knows who leads, and has all that it is to hold
    of what the others have."""
    return ask(port, "/healthz").get("status") == "ok"


def _place(route: str) -> tuple[str, int]:
    """Host and port of ``host:port``."""
    try:
        parts = urlsplit(f"//{route}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or "@" in route or parts.path or parts.query:
        raise ConfigError(f"a node of the cluster is at {route!r}", hint="NAME=host:port is wanted")
    return host, port
