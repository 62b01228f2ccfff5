"""Users and permissions of nats-server, whose MQTT gateway turns topics into subjects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from propeller_fl.access._identity import Identity
from propeller_fl.access._permissions import AccessRole, Grants

# What a session with QoS 1 is sent arrives on a subject of its own under this one, which MQTT
# clients cannot subscribe to by themselves: the gateway refuses its reserved topics.
_DELIVERIES = "$MQTT.sub.>"
_LOGIN_S = 15  # for CONNECT to come: a busy machine, or a board that counts primes


def nats_users(identities: Iterable[tuple[Identity, Grants]]) -> str:
    """The text of a configuration file that holds ``authorization`` and nothing else."""
    users = [_user(identity, grants) for identity, grants in identities]
    return f'"authorization": {json.dumps({"timeout": _LOGIN_S, "users": users}, indent=1)}\n'


def nats_subject(topic_filter: str) -> str:
    """As the gateway maps it: ``/`` → ``.``, ``.`` → ``//``, ``+`` → ``*``, ``#`` → ``>``."""
    wildcards = {"+": "*", "#": ">"}
    levels = (wildcards.get(level, level.replace(".", "//")) for level in topic_filter.split("/"))
    return ".".join(levels)


def _user(identity: Identity, grants: Grants) -> dict[str, Any]:
    user: dict[str, Any] = {"user": identity.name, "password": identity.bcrypt}
    if identity.role is AccessRole.BROKER:
        return user | {"allowed_connection_types": ["STANDARD", "MQTT"]}
    publish = {"allow": [nats_subject(topic) for topic in grants.publish]}
    if grants.deny_publish:
        publish["deny"] = [nats_subject(topic) for topic in grants.deny_publish]
    return user | {
        "allowed_connection_types": ["MQTT"],
        "permissions": {
            "publish": publish if grants.publish else {"deny": [">"]},  # an empty list allows all
            "subscribe": [_DELIVERIES, *(nats_subject(topic) for topic in grants.subscribe)],
        },
    }
