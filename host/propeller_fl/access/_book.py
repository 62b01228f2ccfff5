"""What a deployment is to be, and the book of its identities, without files or clocks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from propeller_fl.access._identity import Identity
from propeller_fl.access._nodes import NodePlace, check_nodes
from propeller_fl.access._permissions import AccessRole
from propeller_fl.errors import ConfigError
from propeller_fl.link import is_loopback
from propeller_fl.wire import Topics

_VERSION: Final = 1

Broker = Literal["embedded", "mosquitto"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment is to be.

    ``hosts``                names and addresses under which others reach this machine; empty: it is
                             for this machine alone, and listens on loopback
    ``nodes``                of a cluster of embedded brokers; empty: one broker, on this machine
    ``client_certificates``  clients must show one as well (mutual TLS)
    ``shared_topics``        for Propeller's own proplets, who know no others: see ``grants_of``
    """

    hosts: tuple[str, ...] = ()
    broker: Broker = "embedded"
    port: int = 8883
    http_port: int = 8443
    gateway_port: int = 8444
    topic_prefix: str = ""
    client_certificates: bool = True
    shared_topics: bool = False
    nodes: tuple[NodePlace, ...] = ()

    def __post_init__(self) -> None:
        if self.nodes:
            check_nodes(self.nodes)
        if self.nodes and self.broker != "embedded":
            raise ConfigError(f"nodes are given, and {self.broker} makes no cluster")

    @property
    def listen(self) -> str:
        """The address to listen on."""
        return "127.0.0.1" if all(is_loopback(host) for host in self.hosts) else "0.0.0.0"

    @property
    def public_host(self) -> str:
        """The one that credentials name."""
        return self.hosts[0] if self.hosts else "127.0.0.1"

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    @property
    def broker_url(self) -> str:
        """Where clients find the broker."""
        if self.nodes:
            return f"mqtts://{','.join(node.place for node in self.nodes)}"
        return self.url("mqtts", self.port)

    def url(self, scheme: str, port: int) -> str:
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Revoked:
    name: str
    role: AccessRole
    serial: str
    at: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class Book:
    """``identities.json``: who there is, as it was and is to be. A value."""

    plan: Plan
    identities: tuple[Identity, ...] = ()
    revoked: tuple[Revoked, ...] = ()

    def find(self, name: str) -> Identity | None:
        return next((one for one in self.identities if one.name == name), None)

    def without(self, name: str) -> Self:
        return replace(self, identities=tuple(i for i in self.identities if i.name != name))

    def encode(self) -> bytes:
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, path: Path) -> Self:
        try:
            document = json.loads(data)
            if document["version"] != _VERSION:
                raise ConfigError(f"{path} is of version {document['version']!r}, not {_VERSION}")
            plan = document["plan"]
            return cls(
                Plan(
                    **{
                        **plan,
                        "hosts": tuple(plan["hosts"]),
                        "nodes": tuple(NodePlace(**one) for one in plan.get("nodes", ())),
                    }
                ),
                tuple(_with_role(Identity, one) for one in document["identities"]),
                tuple(_with_role(Revoked, one) for one in document["revoked"]),
            )
        except (ValueError, KeyError, TypeError) as err:
            raise ConfigError(
                f"{path} cannot be read: {type(err).__name__}", hint="restore it from a copy"
            ) from err


def _with_role(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{**values, "role": AccessRole(values["role"])})
