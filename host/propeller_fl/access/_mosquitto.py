"""The same users and permissions as files for mosquitto 2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from propeller_fl.access._identity import Identity
from propeller_fl.access._permissions import Grants


@dataclass(frozen=True, slots=True)
class MosquittoPlace:
    """Where it listens and what it finds where. ``user``: as whom it runs when root starts it."""

    host: str
    port: int
    user: str
    directory: Path
    certificate: Path
    key: Path
    authority: Path
    client_certificates: bool


def mosquitto_conf(place: MosquittoPlace) -> str:
    host = "" if place.host in ("0.0.0.0", "::") else f" {place.host}"
    return f"""\
# Made by propeller-fl; `propeller-fl init` would write it again.
listener {place.port}{host}
user {place.user}
pid_file {place.directory / "mosquitto.pid"}

allow_anonymous false
password_file {place.directory / "passwords"}
acl_file {place.directory / "acl"}

cafile {place.authority}
certfile {place.certificate}
keyfile {place.key}
require_certificate {str(place.client_certificates).lower()}

persistence true
persistence_location {place.directory}/
autosave_interval 60
# The default of 1,000 silently drops what more waits for a session.
max_queued_messages 0
max_inflight_messages 256
"""


def mosquitto_passwords(identities: Iterable[Identity]) -> str:
    return "".join(f"{identity.name}:{identity.pbkdf2}\n" for identity in identities)


def mosquitto_acl(identities: Iterable[tuple[Identity, Grants]]) -> str:
    return "\n".join(_stanza(identity, grants) for identity, grants in identities)


def _stanza(identity: Identity, grants: Grants) -> str:
    lines = [
        f"user {identity.name}",
        *(f"topic write {topic}" for topic in grants.publish),
        *(f"topic read {topic}" for topic in grants.subscribe),
    ]
    # There is a "topic deny", which would forbid reading as well: see Grants.deny_publish.
    return "\n".join(lines) + "\n"
