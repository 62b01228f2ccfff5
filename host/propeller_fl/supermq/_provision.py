"""A domain, a channel, and for each of our services a client that may use it; and the settings
files with which the services find their way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.link import BrokerAddress
from propeller_fl.supermq._api import Api
from propeller_fl.supermq._secrets import write_secret
from propeller_fl.wire import Topics, check_id

_SERVICES: Final = ("manager", "coordinator", "model-server", "operator")
_CONNECTIONS: Final = ("publish", "subscribe")
_ROUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,35}", re.ASCII)  # SuperMQ's rule


@dataclass(frozen=True, slots=True)
class Plan:
    """What there shall be.

    ``directory``  where the files go: ``{name}.toml`` and ``{name}.key``, mode 0600
    ``seen_as``    that directory as the services see it, in a container say; None: the same
    ``broker``     SuperMQ's MQTT adapter, ``mqtt://host:port`` or ``mqtts://…``, without a login
    """

    directory: Path
    broker: str
    proplets: tuple[str, ...]
    domain: str = "propeller-fl"
    channel: str = "fl"
    seen_as: Path | None = None

    def __post_init__(self) -> None:
        if BrokerAddress.parse(self.broker).username is not None:
            raise ConfigError("the broker's address has a login", hint="each client gets its own")
        for route in (self.domain, self.channel):
            if not _ROUTE.fullmatch(route):
                raise ConfigError(
                    f"a domain or channel cannot be called {route[:80]!r}",
                    hint="SuperMQ wants a letter, then up to 35 letters, digits, _ -",
                )
        for name in self.proplets:
            check_id(name, "name")
            if ".." in name:  # it becomes a level of topics
                raise ConfigError(f"{name} has two dots in a row", hint="SuperMQ refuses that")
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ConfigError(f"two clients would be called {', '.join(sorted(twice))}")

    @property
    def names(self) -> tuple[str, ...]:
        return (*_SERVICES, *self.proplets)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """How it came out. ``changes`` names what was not so before, a line each."""

    topic_prefix: str
    settings: Mapping[str, Path]
    changes: tuple[str, ...]


def provision(api: Api, plan: Plan) -> Provisioned:
    """Make what is lacking of ``plan``, and write the files. A second time changes nothing.

    ``api`` is logged in. Raises what it raises, and :class:`StoreError` for the files.
    """
    changes: list[str] = []
    domain = _only(api.domains(plan.domain), "domains", plan.domain)
    if domain is None:
        domain = api.create_domain(plan.domain, plan.domain)
        changes.append(f"domain {plan.domain}")
    domain_id = str(domain["id"])
    channel = _only(api.channels(domain_id, plan.channel), "channels", plan.channel)
    if channel is None:
        channel = api.create_channel(domain_id, plan.channel, plan.channel)
        changes.append(f"channel {plan.channel}")
    channel_id = str(channel["id"])
    prefix = f"m/{domain_id}/c/{channel_id}"
    Topics(prefix)  # raises on ids that are none
    files: dict[str, Path] = {}
    for name in plan.names:
        client = _only(api.clients(domain_id, name), "clients", name)
        if client is None:
            client = api.create_client(domain_id, name)
            changes.append(f"client {name}")
        client_id = str(client["id"])
        for kind in _CONNECTIONS:
            if api.connect(domain_id, channel_id, client_id, kind):
                changes.append(f"{name} may {kind}")
        files[name] = plan.directory / f"{name}.toml"
        for path, content in _files(plan, name, client_id, _secret(client, name), prefix):
            if write_secret(path, content.encode()):
                changes.append(f"file {path}")
    return Provisioned(prefix, files, tuple(changes))


def _only(found: Iterator[Mapping[str, Any]], kind: str, name: str) -> Mapping[str, Any] | None:
    """The one there is; with two of a name nobody can say which is meant."""
    items = list(found)
    if len(items) > 1:
        ids = ", ".join(str(item.get("id")) for item in items)
        raise RequestError(
            f"there are {len(items)} {kind} named {name}: {ids}",
            hint="rename or delete all but one, or choose another name",
        )
    if items and not isinstance(items[0].get("id"), str):
        raise RequestError(f"SuperMQ lists {name} without an id")
    return items[0] if items else None


def _secret(client: Mapping[str, Any], name: str) -> str:
    credentials = client.get("credentials")
    secret = credentials.get("secret") if isinstance(credentials, dict) else None
    if not isinstance(secret, str) or not secret:
        raise RequestError(
            f"SuperMQ does not show the secret of client {name}",
            hint="log in as the user who made it, or delete the client to have a new one made",
        )
    return secret


def _files(
    plan: Plan, name: str, client_id: str, secret: str, prefix: str
) -> Iterator[tuple[Path, str]]:
    seen = (plan.seen_as or plan.directory.absolute()) / f"{name}.key"
    scheme, _, place = plan.broker.rpartition("://")
    url = f"{scheme or 'mqtt'}://{quote(client_id, safe='')}@{place}"
    lines = [
        f"# {name} on SuperMQ, by `propeller-fl supermq provision`",
        f"topic_prefix = {json.dumps(prefix)}",
        "[broker]",
        f"url = {json.dumps(url)}",
        f"password_file = {json.dumps(str(seen))}",
    ]
    if name in plan.proplets:
        lines += ["[proplet]", f"ids = [{json.dumps(name)}]"]
    yield plan.directory / f"{name}.key", f"{secret}\n"
    yield plan.directory / f"{name}.toml", "\n".join(lines) + "\n"
