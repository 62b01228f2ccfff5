"""What an ``oci://`` reference names."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final

from propeller_fl.errors import ImageError

_WANTED: Final = "oci://host[:port]/name[:tag] or …/name@sha256:…"
_MAX_CHARS: Final = 1024
# Names and tags as the distribution specification has them.
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    r"oci://(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)"
    rf"/(?P<name>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@sha256:(?P<digest>[0-9a-f]{64}))?"
)
# Kept for examples by RFC 2606: no registry will ever answer there.
_EXAMPLES: Final = ("example", "invalid")


@dataclass(frozen=True, slots=True)
class Reference:
    """``host`` with its port, ``name`` of the repository, and what in it: ``digest`` (64 hex
    digits) if it is not empty, else ``tag``."""

    host: str
    name: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises :class:`ImageError`."""
        match = _REFERENCE.fullmatch(text) if len(text) <= _MAX_CHARS else None
        if match is None:
            raise ImageError(f"{text[:80]!r} is no reference to an image", hint=_WANTED)
        found = cls(
            match["host"].lower(), match["name"], match["tag"] or "latest", match["digest"] or ""
        )
        if found.hostname.rpartition(".")[2] in _EXAMPLES:
            raise ImageError(
                f"{text[:80]} is an example: there is no registry {found.hostname}",
                hint="name one of yours, or let it stand for a module at hand: "
                f'[manager] images = {{ "{text[:80]}" = "…" }}',
            )
        return found

    @property
    def hostname(self) -> str:
        """Without port and brackets."""
        if self.host.startswith("["):
            return self.host[1:].partition("]")[0]
        return self.host.partition(":")[0]

    @property
    def version(self) -> str:
        """As in the path of its manifest: ``sha256:…`` or the tag."""
        return f"sha256:{self.digest}" if self.digest else self.tag

    def pinned(self, digest: str) -> Reference:
        """The same by digest, whatever becomes of the tag."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        version = f"@sha256:{self.digest}" if self.digest else f":{self.tag}"
        return f"oci://{self.host}/{self.name}{version}"


def is_loopback(hostname: str) -> bool:
    """Whether what is sent there stays on this machine."""
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname.strip("[]")).is_loopback
    except ValueError:
        return False
