"""The nodes of a cluster of embedded brokers: each has a directory of its own, to be carried to its
machine, from which ``propeller-fl broker`` runs it.

data_dir/nodes/{name}/settings.toml             where it listens, who the others are
data_dir/nodes/{name}/access/server.key, .pem   its own, for TLS with clients and with other nodes
data_dir/nodes/{name}/access/…                  copies: users, hashes, the authority's certificate,
                                                the login of brokers, and the nodes' password
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from propeller_fl.access._secret_files import make_private, write_private
from propeller_fl.config import DEPLOYMENT_FILE
from propeller_fl.errors import ConfigError
from propeller_fl.link import ROUTE_PORT, ClusterNode, is_loopback

ROUTES_FILE: Final = "routes.secret"
_COPIES: Final = ("authority.pem", "identities.json", "nats-users.conf", ROUTES_FILE)
_LOGIN: Final = Path("credentials") / "broker.json"
_FORM: Final = re.compile(
    r"(?P<name>[^=]+)=(?P<host>\[[^\]]+\]|[^:\[\]]+)(:(?P<port>\d+)(:(?P<route_port>\d+))?)?"
)


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node, the name or address of its machine, and the ports for clients and for other nodes."""

    name: str
    host: str
    port: int = 8883
    route_port: int = ROUTE_PORT

    @classmethod
    def parse(cls, text: str) -> Self:
        """``NAME=HOST``, ``NAME=HOST:PORT`` or ``NAME=HOST:PORT:ROUTE_PORT``. ConfigError."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(f"a node is {text!r}", hint="NAME=HOST[:PORT[:ROUTE_PORT]] is wanted")
        ports = {
            name: int(found[name]) for name in ("port", "route_port") if found[name] is not None
        }
        if any(not 0 < port < 65_536 for port in ports.values()):
            raise ConfigError(f"a node is {text!r}", hint="ports are 1 to 65535")
        return cls(found["name"], found["host"].strip("[]"), **ports)

    @property
    def place(self) -> str:
        """For clients."""
        return f"{self._host}:{self.port}"

    @property
    def route(self) -> str:
        """For the other nodes."""
        return f"{self._host}:{self.route_port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def check_nodes(nodes: Sequence[NodePlace]) -> None:
    """Raises :class:`ConfigError` for what makes no cluster."""
    if len({node.name for node in nodes}) < len(nodes):
        raise ConfigError("two nodes have the same name")
    if len({node.place for node in nodes}) < len(nodes):
        raise ConfigError(
            "two nodes listen at the same place",
            hint="NAME=HOST:PORT:ROUTE_PORT gives each its own",
        )
    for node in nodes:
        ClusterNode(node.name, _routes(nodes))


def write_node_settings(directory: Path, node: NodePlace, nodes: Sequence[NodePlace]) -> None:
    """Make the node's directory, with what does not change when identities do."""
    make_private(directory)
    make_private(directory / "access")
    make_private(directory / "access" / "credentials")
    listen = "127.0.0.1" if all(is_loopback(one.host) for one in nodes) else "0.0.0.0"
    routes = ",".join(f"{name}={route}" for name, route in _routes(nodes).items())
    values = {"host": listen, "port": node.port, "node": node.name, "nodes": routes}
    lines = ["# Made by `propeller-fl init`; yours to change.", "", "[broker]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    write_private(directory / DEPLOYMENT_FILE, ("\n".join(lines) + "\n").encode())


def copy_to_node(access: Path, directory: Path) -> None:
    """Bring the node's copies of what lies in ``access`` up to date."""
    for name in (*_COPIES, _LOGIN):
        try:
            data = (access / name).read_bytes()
        except OSError as err:
            raise ConfigError(f"{access / name}: {err.strerror}") from err
        write_private(directory / "access" / name, data)


def _routes(nodes: Sequence[NodePlace]) -> dict[str, str]:
    return {node.name: node.route for node in nodes}
