"""Parts of a model over HTTP with Range, from the one host that is set."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from propeller_fl.errors import PropellerError
from propeller_fl.wire import Manifest

_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """How to prove who we are to the server, and how it must to us. ``token`` goes nowhere without
    TLS."""

    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)


class HttpTrouble(PropellerError):
    """The server has it not, or not any more, or is not one of ours."""


def read_over_http(
    url: str, manifest: Manifest, missing: Sequence[int], access: HttpAccess | None = None
) -> Iterator[tuple[int, bytes]]:
    """The bytes of these parts, not checked: one request for each run of neighbours.

    Raises :class:`HttpTrouble`. No redirect is followed and no proxy asked.
    """
    access = access or HttpAccess()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        _StayHere(),
        urllib.request.HTTPSHandler(context=access.tls),
    )
    headers = {"Accept-Encoding": "identity"}
    if access.token and url.startswith("https://"):
        headers["Authorization"] = f"Bearer {access.token}"
    address = f"{url.rstrip('/')}/models/{manifest.version}?format=safetensors"
    for run in _runs(missing):
        start, stop = manifest.place(run[0]).start, manifest.place(run[-1]).stop
        request = urllib.request.Request(
            address,
            headers={
                **headers,
                "Range": f"bytes={start}-{stop - 1}",
                "If-Range": f'"{manifest.sha256}"',  # else all of it comes, and is not read
            },
        )
        try:
            with opener.open(request, timeout=_PATIENCE_S) as answer:
                found = answer.headers.get("Content-Range", "")
                if answer.status != 206 or not found.startswith(f"bytes {start}-"):
                    raise HttpTrouble(f"{address} is not the model of the manifest")
                for index in run:
                    data = answer.read(len(manifest.place(index)))
                    if len(data) != len(manifest.place(index)):
                        raise HttpTrouble(f"{address} broke off")
                    yield index, data
        except (OSError, http.client.HTTPException, ValueError) as err:  # URLError is an OSError
            raise HttpTrouble(f"{address}: {err}") from err


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def _runs(indices: Sequence[int]) -> Iterator[range]:
    """Neighbours together."""
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            yield range(indices[start], indices[end - 1] + 1)
            start = end
