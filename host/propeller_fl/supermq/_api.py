"""SuperMQ's HTTP API, as much of it as provisioning needs.

Paths, bodies and status codes are those of its OpenAPI files (``apidocs/openapi`` of releases
v0.18.1 to v0.19.1, which agree on all that is used here).
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from propeller_fl.errors import ConfigError, LinkError, RequestError

_PATIENCE_S: Final = 10.0
_RETRY_S: Final = 1.0
_PAGE: Final = 100  # SuperMQ's largest
_MAX_BYTES: Final = 8 * 1024 * 1024
_CONFLICT: Final = 409
_NOT_UP_YET: Final = frozenset({502, 503, 504})  # of a proxy before services that are starting


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the four services are: one address behind a proxy, or a port each."""

    users: str = "http://localhost:9002"
    domains: str = "http://localhost:9003"
    channels: str = "http://localhost:9005"
    clients: str = "http://localhost:9006"

    def __post_init__(self) -> None:
        for service in ("users", "domains", "channels", "clients"):
            url = getattr(self, service)
            try:
                parts = urlsplit(url)
                fine = parts.scheme in ("http", "https") and bool(parts.hostname)
                fine = fine and parts.port != 0 and not parts.username
            except ValueError:
                fine = False
            if not fine:
                raise ConfigError(
                    f"the {service} service's address cannot be used", hint="http://host:port"
                )


@dataclass(frozen=True, slots=True)
class Login:
    """A user of SuperMQ who may make domains."""

    username: str
    password: str = field(repr=False)


class Api:
    """A session of one user.

    Raises :class:`LinkError` when a service is out of reach, :class:`RequestError` when it says no.
    Until ``wait_s`` have passed a service that is not there is waited for.
    """

    def __init__(self, endpoints: Endpoints, *, wait_s: float = 0.0) -> None:
        self._endpoints = endpoints
        self._give_up_at_s = time.monotonic() + wait_s
        self._token = ""
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            _StayHere(),  # a token must go nowhere else
        )

    def log_in(self, login: Login) -> None:
        body = {"username": login.username, "password": login.password}
        _, document = self._call("users", "POST", "/users/tokens/issue", body, login.username)
        token = document.get("access_token")
        if not isinstance(token, str) or not token:
            raise RequestError(
                "the users service gave no access token", hint="is that SuperMQ's users service?"
            )
        self._token = token

    def domains(self, name: str) -> Iterator[Mapping[str, Any]]:
        """The domains of this name that the user may see."""
        return self._list("domains", "/domains", "domains", {"name": name})

    def create_domain(self, name: str, route: str) -> Mapping[str, Any]:
        return self._create("domains", "/domains", {"name": name, "route": route}, name)

    def channels(self, domain_id: str, name: str) -> Iterator[Mapping[str, Any]]:
        return self._list("channels", f"/{quote(domain_id)}/channels", "channels", {"name": name})

    def create_channel(self, domain_id: str, name: str, route: str) -> Mapping[str, Any]:
        body = {"name": name, "route": route}
        return self._create("channels", f"/{quote(domain_id)}/channels", body, name)

    def clients(self, domain_id: str, name: str) -> Iterator[Mapping[str, Any]]:
        """Each with ``credentials.secret``: SuperMQ shows it to who may read the client."""
        return self._list("clients", f"/{quote(domain_id)}/clients", "clients", {"name": name})

    def create_client(self, domain_id: str, name: str) -> Mapping[str, Any]:
        """SuperMQ chooses the secret."""
        body = {"name": name, "credentials": {}}
        return self._create("clients", f"/{quote(domain_id)}/clients", body, name)

    def connect(self, domain_id: str, channel_id: str, client_id: str, kind: str) -> bool:
        """Let a client ``publish`` to or ``subscribe`` to a channel. False: it could already."""
        body = {"channel_ids": [channel_id], "client_ids": [client_id], "types": [kind]}
        path = f"/{quote(domain_id)}/channels/connect"
        status, _ = self._call("channels", "POST", path, body, client_id, allow=_CONFLICT)
        return status != _CONFLICT

    def _list(
        self, service: str, path: str, key: str, query: Mapping[str, str]
    ) -> Iterator[Mapping[str, Any]]:
        offset = 0
        while True:
            asked = urlencode({**query, "offset": str(offset), "limit": str(_PAGE)})
            _, document = self._call(service, "GET", f"{path}?{asked}", None, key)
            page = document.get(key) or []
            # the filter finds a part of a name as well
            yield from (item for item in page if item.get("name") == query["name"])
            offset += len(page)
            total = document.get("total")
            if not page or not isinstance(total, int) or offset >= total:
                return

    def _create(
        self, service: str, path: str, body: dict[str, Any], name: str
    ) -> Mapping[str, Any]:
        _, document = self._call(service, "POST", path, body, name)
        if not isinstance(document.get("id"), str):
            raise RequestError(
                f"the {service} service gave {name} no id", hint=f"is that SuperMQ's {service}?"
            )
        return document

    def _call(
        self,
        service: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        subject: str,
        *,
        allow: int = 0,
    ) -> tuple[int, dict[str, Any]]:
        url = getattr(self._endpoints, service).rstrip("/") + path
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        while True:
            request = urllib.request.Request(url, data=data, headers=headers, method=method)
            try:
                with self._opener.open(request, timeout=_PATIENCE_S) as response:
                    return response.status, _document(service, response.read(_MAX_BYTES))
            except urllib.error.HTTPError as err:
                with err:
                    said = err.read(_MAX_BYTES)
                if err.code == allow:
                    return err.code, {}
                if err.code not in _NOT_UP_YET or self._is_late():
                    raise _refusal(service, err.code, said, subject) from None
            except (OSError, http.client.HTTPException) as err:
                if self._is_late():
                    reason = getattr(err, "reason", err)
                    raise LinkError(
                        f"the {service} service at {getattr(self._endpoints, service)} is out of "
                        f"reach: {reason}",
                        hint=f"is SuperMQ up? --url or --{service}-url says where it is, "
                        "--wait-s how long to wait for it",
                    ) from None
            time.sleep(_RETRY_S)

    def _is_late(self) -> bool:
        return time.monotonic() >= self._give_up_at_s


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _document(service: str, data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}  # of a connection
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RequestError(
            f"the {service} service answered with no JSON object",
            hint=f"is that SuperMQ's {service} service?",
        )
    return document


_HINTS: Final = {
    400: "is it a release from v0.18.1 to v0.19.1? Other ones may want other fields",
    401: "check the user's name and password, and that the user is enabled",
    403: "the user may not do that: use the one who made the domain, or an administrator",
    404: "is that the right service? --url is for all behind one proxy, else each has its port",
    409: "the name or route is taken by something that this user cannot see, or that is disabled: "
    "choose another, or enable it",
    422: "SuperMQ's database says no: its log says why",
    429: "too many requests: try again in a while",
}


def _refusal(service: str, code: int, said: bytes, subject: str) -> RequestError:
    try:
        document = json.loads(said)
        text = document.get("message") or document.get("error") or ""
    except (ValueError, AttributeError):
        text = ""
    detail = f": {str(text)[:200]}" if text else ""
    hint = _HINTS.get(code, f"the log of SuperMQ's {service} service says why")
    return RequestError(
        f"SuperMQ's {service} service refuses {subject} with {code}{detail}", hint=hint
    )
