"""What one identity holds to prove who it is: one small file, which also fits into a QR code."""

from __future__ import annotations

import base64
import binascii
import json
import stat
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from propeller_fl.access._authority import KeyPair, certificate_pem
from propeller_fl.access._permissions import AccessRole, check_identity
from propeller_fl.errors import ConfigError
from propeller_fl.link import BrokerAddress, TlsOptions

_FORMAT: Final = "propeller_fl_credential"
_VERSION: Final = 1
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Credential:
    """All that a service, an operator or a proplet needs to take part.

    ``broker``       ``mqtts://host:port``, or ``mqtts://a:port,b:port,c:port`` of a cluster
    ``models``       ``https://host:port`` of the model server, or empty
    ``own_topics``   whether it speaks on control topics of its own, and not on the shared ones
    ``client_id``    of its MQTT session; as hard to guess as a password, since whoever connects
                     with it ends that session
    ``token``        for HTTP
    ``authority``    the deployment's certificate, DER; ``certificate``, ``key`` its own, or empty

    ``repr`` shows no secret.
    """

    name: str
    role: AccessRole
    broker: str
    models: str = ""
    topic_prefix: str = ""
    own_topics: bool = True
    client_id: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    authority: bytes = field(default=b"", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        document: dict[str, Any] = {_FORMAT: _VERSION}
        for item in fields(self):
            value = getattr(self, item.name)
            document[item.name] = (
                base64.b64encode(value).decode() if isinstance(value, bytes) else value
            )
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes, source: str) -> Self:
        """Raises :class:`ConfigError` that names ``source`` and shows nothing of the content."""
        try:
            document = json.loads(data)
            version = document.pop(_FORMAT)
            if version != _VERSION:
                raise ConfigError(f"{source} is a credential of version {version!r}, not 1")
            values: dict[str, Any] = {}
            for item in fields(cls):
                value = document[item.name]
                if item.type == "bytes":
                    value = base64.b64decode(value, validate=True)
                elif not isinstance(value, bool if item.type == "bool" else str):
                    raise ValueError
                values[item.name] = value
            values["role"] = AccessRole(values["role"])
            check_identity(values["name"], values["role"])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise ConfigError(
                f"{source} is not a credential",
                hint="`propeller-fl proplet enroll NAME` makes one",
            ) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises :class:`ConfigError`, also for a file that others may read."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                data = file.read(_MAX_BYTES + 1)
        except OSError as err:
            raise ConfigError(f"credential {path}: {err.strerror}") from err
        if mode & 0o077:
            raise ConfigError(
                f"credential {path} can be read by others (mode {mode:04o})",
                hint=f"chmod 600 {path}; and enroll it again if somebody may have",
            )
        return cls.decode(data[:_MAX_BYTES], f"credential {path}")

    def address(self, broker: BrokerAddress | None = None) -> BrokerAddress:
        """The broker with this login and TLS; at ``broker``, if that is another place."""
        tls = self.tls
        place = broker or BrokerAddress.parse(self.broker, tls=tls)
        return replace(place, username=self.name, password=self.password, tls=tls)

    @property
    def tls(self) -> TlsOptions:
        """Trusts the deployment's authority alone, and shows its own certificate if it has one."""
        identity = ""
        if self.certificate:
            pair = KeyPair(self.certificate, self.key)
            identity = pair.certificate_pem() + pair.key_pem()
        return TlsOptions(ca_pem=certificate_pem(self.authority), identity_pem=identity)
