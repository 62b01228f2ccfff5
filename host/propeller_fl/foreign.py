"""The environment names of Propeller and of its federated learning demo, as settings of ours.

They count less than our own ``PROPELLER_FL_…``. docs/supermq.md lists them all, also those that we
do not read. An empty variable is one that is not set: compose files pass many of those.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from propeller_fl.errors import ConfigError

_SCHEMES: Final = {
    "mqtt": "mqtt", "tcp": "mqtt", "mqtts": "mqtts", "ssl": "mqtts", "tls": "mqtts",
}  # fmt: skip
_PROPELLERS_BROKER: Final = "tcp://localhost:1883"  # where its programs look unless told otherwise
_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_STEP: Final = re.compile(r"([0-9.]+)([a-zµ]+)")

# Whose names a command reads beside the general ones; a command of an operator: the manager's.
_ROLES: Final = {"proplet": "PROPLET", "coordinator": "COORDINATOR", "model-server": "COORDINATOR"}

Setting = tuple[str, tuple[Any, str]]


def foreign_settings(
    environ: Mapping[str, str], command: str = "", decided: Container[str] = ()
) -> Iterator[Setting]:
    """``(setting, (value, variable))`` for what ``environ`` says to ``command`` (``manager``,
    ``proplet``, ``up``, …), but for the settings that are ``decided`` by what counts more. Raises
    :class:`ConfigError` naming the variable that is wrong."""
    names = _Names(environ)
    role = _ROLES.get(command, "MANAGER")
    if "broker.url" not in decided:
        if command == "up":
            _same_broker(names)
        yield from _broker(names, role)
    if "topic_prefix" not in decided:
        yield from _prefix(names, role)
    for variable, setting in (
        ("MODELS_DIR", "model_server.models_dir"),
        ("REGISTRY_PORT", "model_server.http_port"),
        ("MODEL_REGISTRY_URL", "proplet.models_url"),
        (names.first("COORDINATOR_PORT", "MANAGER_HTTP_PORT")[0], "gateway.http_port"),
    ):
        if names.get(variable):
            yield setting, (names.get(variable), variable)
    interval = "PROPLET_LIVELINESS_INTERVAL"
    if names.get(interval) and "proplet.heartbeat_s" not in decided:
        yield "proplet.heartbeat_s", (_seconds(interval, names.get(interval)), interval)
    if command == "proplet":
        variable, identity = names.first("PROPLET_ENTITY_ID", "PROPLET_CLIENT_ID")
        if identity:
            yield "proplet.ids", ((identity,), variable)


class _Names:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, variable: str) -> str:
        return self._environ.get(variable, "")

    def first(self, *variables: str) -> tuple[str, str]:
        """The first of these that is set, with its value; the first of all and nothing else."""
        found = next((name for name in variables if self.get(name)), variables[0])
        return found, self.get(found)


def _broker(names: _Names, role: str) -> Iterator[Setting]:
    variable, address = names.first(f"{role}_MQTT_ADDRESS", "MQTT_BROKER")
    user, identity = names.first(f"{role}_ENTITY_ID", f"{role}_CLIENT_ID", "MQTT_USERNAME")
    secret, key = names.first(f"{role}_API_KEY", f"{role}_CLIENT_KEY", "MQTT_PASSWORD")
    if key and not identity:
        raise ConfigError(f"{secret} is set, and no identity for it", hint=f"set {user} as well")
    if not address and not key:
        return  # an identity alone is a label: the broker asks for none
    if not address:
        variable, address = user, _PROPELLERS_BROKER
    yield "broker.url", (_url(variable, address, identity, key), variable)


def _url(variable: str, address: str, identity: str, key: str) -> str:
    """``address`` in our form, with this login unless it has one of its own."""
    scheme, found, rest = address.partition("://")
    if not found:
        scheme, rest = "mqtt", address
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"{variable}: no broker is reached by {scheme[:16]!r}",
            hint="tcp://host:port or ssl://host:port, as Propeller writes it, or mqtt://, mqtts://",
        )
    url = f"{_SCHEMES[scheme]}://{rest}"
    try:
        parts = urlsplit(url)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:  # what it is may hold a password
        raise ConfigError(f"{variable}: host or port cannot be read", hint="try tcp://host:1883")
    if "@" in rest or not key:
        return url
    return f"{_SCHEMES[scheme]}://{quote(identity, safe='')}:{quote(key, safe='')}@{rest}"


def _prefix(names: _Names, role: str) -> Iterator[Setting]:
    """Propeller's ``m/{tenant}/c/{channel}``; who has none of his own shares the manager's."""
    tenants = [f"{role}_TENANT_ID", f"{role}_DOMAIN_ID"]
    channels = [f"{role}_CHANNEL_ID"]
    if role == "COORDINATOR":
        tenants += ["MANAGER_TENANT_ID", "MANAGER_DOMAIN_ID"]
        channels += ["MANAGER_CHANNEL_ID"]
    tenant_variable, tenant = names.first(*tenants)
    channel_variable, channel = names.first(*channels)
    if not tenant and not channel:
        return
    if not tenant or not channel:
        there, lacking = (
            (tenant_variable, channel_variable) if tenant else (channel_variable, tenant_variable)
        )
        raise ConfigError(f"{there} is set without {lacking}", hint="topics need both, or neither")
    for variable, value in ((tenant_variable, tenant), (channel_variable, channel)):
        if not re.fullmatch(r"[A-Za-z0-9._-]+", value, re.ASCII):
            raise ConfigError(
                f"{variable} is {value!r}", hint="an id of SuperMQ: letters, digits, . _ -"
            )
    yield "topic_prefix", (f"m/{tenant}/c/{channel}", tenant_variable)


def _same_broker(names: _Names) -> None:
    variable, address = names.first("MANAGER_MQTT_ADDRESS", "MQTT_BROKER")
    other = names.get("PROPLET_MQTT_ADDRESS")
    if other and not address:
        raise ConfigError(
            f"PROPLET_MQTT_ADDRESS is set without {variable}, and `up` runs all on one broker",
            hint="set both, or unset it for the embedded broker",
        )
    if other and other != address:
        raise ConfigError(
            f"PROPLET_MQTT_ADDRESS and {variable} name different brokers, and `up` runs all on one",
            hint="run `propeller-fl up --proplets ''` and `propeller-fl proplet`, or unset one",
        )


def _seconds(variable: str, text: str) -> float:
    """Seconds of a duration as Go writes it: ``10s``, ``1m30s``, ``500ms``."""
    if not _DURATION.fullmatch(text):
        raise ConfigError(
            f"{variable} is {text[:40]!r}, which is no duration", hint="try 10s, 500ms or 1m30s"
        )
    return sum(float(number) * _UNITS_S[unit] for number, unit in _STEP.findall(text))
