"""Where a broker is, and how to present oneself to it."""

from __future__ import annotations

import ipaddress
import re
import ssl
import tempfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TRY = "try mqtt://host:port, mqtts://user:password@host:port or host:port; a,b,c for a cluster"
_ENCODE = "percent-encode / @ : # in user and password"


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to verify the broker, and what to show it.

    ``ca_file``    PEM file of authorities to trust instead of the system's
    ``cert_file``  PEM file of our own certificate, with ``key_file`` (or the key in the same file)
    ``insecure``   accept any certificate; for a bench, never for a network
    ``ca_pem``, ``identity_pem``  the same in memory: authorities to trust, certificate and key
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False
    ca_pem: str = field(default="", repr=False)
    identity_pem: str = field(default="", repr=False)

    def context(self) -> ssl.SSLContext:
        """Read the files. ConfigError names the one that cannot be used."""
        if self.key_file and not self.cert_file:
            raise ConfigError(f"TLS key {self.key_file} is given without a certificate")
        for path in (self.ca_file, self.cert_file, self.key_file):
            if path and not path.is_file():
                raise ConfigError(
                    f"no TLS file at {path}", hint="check ca_file, cert_file, key_file"
                )
        try:
            context = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_pem or None)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
            if self.identity_pem:
                _load_from_memory(context, self.identity_pem)
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(str(p) for p in (self.ca_file, self.cert_file, self.key_file) if p)
            raise ConfigError(
                f"unusable TLS file among {files}: {error}",
                hint="they must be PEM, and the key must belong to the certificate",
            ) from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's host and TCP port, the login if it wants one, TLS if it speaks it.

    ``others``  host and port of the other nodes, where it is a cluster: a session may be had at
                any of them, with the same login and TLS

    ``str`` and ``repr`` never show the password.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsOptions | None = None
    others: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, text: str, *, tls: TlsOptions | None = None) -> BrokerAddress:
        """Read ``mqtt://user:password@host:port``, ``mqtts://…`` or ``host:port``. After a comma
        come the other nodes of a cluster: ``mqtt://user:password@a:1883,b:1883,c:1883``.

        User and password are percent-decoded; ports default to 1883 and 8883. ``tls`` says how
        to verify an ``mqtts`` broker (default: the system's authorities). ConfigError otherwise.
        """
        login, at, places = text.rpartition("@")  # a password may have commas, a host has none
        first, *others = places.split(",")
        if "@" in login and "," in login:
            raise ConfigError(
                f"broker address {_masked(text)!r}: more than one login",
                hint=f"it stands once, before the first host; {_ENCODE}",
            )
        address = cls._parse_one(f"{login}{at}{first}", text, tls)
        scheme = "mqtts" if address.tls else "mqtt"
        found = [cls._parse_one(f"{scheme}://{other}", text, address.tls) for other in others]
        address = replace(address, others=tuple((one.host, one.port) for one in found))
        if len(set(address.places)) < len(address.places):
            raise ConfigError(f"broker address {_masked(text)!r}: the same place twice", hint=_TRY)
        return address

    @classmethod
    def _parse_one(cls, text: str, whole: str, tls: TlsOptions | None) -> BrokerAddress:
        """``whole`` is what an error shows."""
        shown = _masked(whole)
        try:
            parts = urlsplit(text if "://" in text else f"mqtt://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:  # its text may hold a piece of the password
            raise ConfigError(
                f"broker address {shown!r}: host or port cannot be read", hint=f"{_TRY}; {_ENCODE}"
            ) from None
        fault = _fault(parts, host, tls)
        if fault or not host:
            raise ConfigError(f"broker address {shown!r}: {fault}", hint=_TRY)
        if parts.scheme == "mqtts" and tls is None:
            tls = TlsOptions()
        return cls(
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            tls=tls,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        return all(is_loopback(place.host) for place in self.places)

    @property
    def places(self) -> tuple[BrokerAddress, ...]:
        """Each node of the cluster by itself; the broker alone if it is none."""
        at = ((self.host, self.port), *self.others)
        return tuple(replace(self, host=host, port=port, others=()) for host, port in at)

    def home_of(self, client_id: str) -> int:
        """At which of ``places`` this client begins: they spread evenly, and each has one that
        stays the same."""
        return zlib.crc32(client_id.encode()) % (1 + len(self.others))

    def __str__(self) -> str:
        scheme = "mqtts" if self.tls else "mqtt"
        user = "" if self.username is None else self.username
        login = f"{user}:***@" if self.password is not None else f"{user}@" if user else ""
        at = ((self.host, self.port), *self.others)
        places = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in at
        )
        return f"{scheme}://{login}{places}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its name or address; nothing is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _load_from_memory(context: ssl.SSLContext, pem: str) -> None:
    """``ssl`` reads keys from files alone: one that is ours only, and gone when it is read."""
    with tempfile.NamedTemporaryFile() as file:  # made with mode 0600
        file.write(pem.encode())
        file.flush()
        context.load_cert_chain(file.name)


def _fault(parts: SplitResult, host: str | None, tls: TlsOptions | None) -> str:
    """What is wrong with a split address, or nothing."""
    if parts.scheme not in _PORTS:
        return f"unknown scheme {parts.scheme!r}"
    if not host or any(c.isspace() for c in host):
        return "no host"
    if parts.port == 0:
        return "port 0 cannot be connected to"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "nothing may follow the port"
    if parts.password is not None and not parts.username:
        return "a password without a user"
    if tls is not None and parts.scheme != "mqtts":
        return "TLS options are given, but the scheme is not mqtts"
    return ""


def _masked(text: str) -> str:
    """``text`` without what may be a password."""
    login, at, place = text.rpartition("@")
    scheme = _SCHEME.match(login)
    start = scheme.end() if scheme else 0
    user, colon, _ = login[start:].partition(":")
    return f"{login[:start]}{user}{colon}{'***' if colon else ''}{at}{place}"
