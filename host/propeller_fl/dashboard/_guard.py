"""Who may look at the page, and who may start and stop things from it."""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propeller_fl.access import AccessRole
from propeller_fl.errors import ConfigError
from propeller_fl.link import is_loopback
from propeller_fl.web import Caller, RateLimit

COOKIE: Final = "propeller_fl_session"
MAX_BODY_BYTES: Final = 1024 * 1024

_SESSION_S: Final = 12 * 3600.0  # since it was last used
_MAX_SESSIONS: Final = 1_000
_MAY_LOOK: Final = (AccessRole.OPERATOR, AccessRole.OBSERVER)
_HEADERS: Final = {
    # no inline script or style, nothing from elsewhere, no frame around us
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class DashboardGuard:
    """``tls``        of the server; None: plain HTTP
    ``find``       whose token that is; None: nobody needs one, which is for loopback alone
    ``may_start``  whether rounds and experiments may be started and stopped at all
    """

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    find: Callable[[str], Caller | None] | None = None
    may_start: bool = True

    def check_host(self, host: str) -> None:
        """Raises :class:`ConfigError` where the page would be for others than this machine without
        the TLS and tokens of a deployment of ``init``."""
        if self.tls is None and not is_loopback(host):
            raise ConfigError(
                f"dashboard.http_host {host} is not this machine alone, and nobody would need a "
                "token there",
                hint="`propeller-fl init` makes tokens and certificates, or use 127.0.0.1",
            )


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at the page."""

    name: str
    may_start: bool


class Door:
    """Tells who a request is from: by a token, or by the cookie that a token was given for.

    The token is looked up again with each request, so that who is revoked is out at once.
    """

    def __init__(self, guard: DashboardGuard, clock: Callable[[], float] = time.monotonic) -> None:
        self._guard = guard
        self._clock = clock
        self._guessing = RateLimit(0.5, 10)
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()  # token, last used

    @property
    def needs_token(self) -> bool:
        return self._guard.find is not None

    @property
    def secure(self) -> bool:
        return self._guard.tls is not None

    def visitor(self, request: Request) -> Visitor | None:
        """Raises :class:`ConfigError` when tokens cannot be looked up."""
        if self._guard.find is None:
            return Visitor("", self._guard.may_start)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = self._token_of(request.cookies.get(COOKIE, ""))
        return self.knows(token) if token else None

    def knows(self, token: str) -> Visitor | None:
        """Whose token that is, if they may look."""
        identity = self._guard.find(token) if self._guard.find else None
        if identity is None or identity.role not in _MAY_LOOK:
            return None
        operates = identity.role is AccessRole.OPERATOR
        return Visitor(identity.name, operates and self._guard.may_start)

    def wait_s(self, request: Request) -> float:
        """0 if this address may try a token now, else after how many seconds."""
        with self._lock:
            address = request.client.host if request.client else "?"
            return self._guessing.wait_s(address, self._clock())

    def open(self, token: str) -> str:
        """A session for who has shown ``token``: the value of its cookie."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session] = token, self._clock()
            if len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def close(self, session: str) -> None:
        with self._lock:
            self._sessions.pop(session, None)

    def _token_of(self, session: str) -> str:
        with self._lock:
            token, used_s = self._sessions.pop(session, ("", 0.0))
            if not token or self._clock() - used_s > _SESSION_S:
                return ""
            self._sessions[session] = token, self._clock()
            return token


class Fence:
    """ASGI: what holds for every request, before any route.

    A page elsewhere can make a browser send us requests. It can set neither Origin nor an
    Authorization header on them, so whatever changes something must come from our own origin or
    bring a token. Where nobody needs one, the Host must be this machine's too, lest a name that is
    turned to 127.0.0.1 makes an elsewhere ours (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._door.needs_token and not is_loopback(_host_of(host)):
            return refused(403, f"this page is not {host[:80]!r}", "ask for 127.0.0.1")
        if method in ("GET", "HEAD"):
            return None
        if not _same_origin(headers, host):
            return refused(403, "this comes from another page", "use the page itself")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return refused(415, "the body is not said to be application/json")
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length[:20]) > MAX_BODY_BYTES:
            return refused(413, f"a body has a length, of at most {MAX_BODY_BYTES} bytes")
        return None


def refused(status: int, why: str, hint: str = "", field: str = "") -> JSONResponse:
    """An error as the page reads it."""
    return JSONResponse({"error": why, "try": hint, "field": field}, status)


def _same_origin(headers: Headers, host: str) -> bool:
    if headers.get("authorization"):
        return True
    origin = headers.get("origin")
    return origin is not None and bool(host) and urlsplit(origin).netloc == host


def _host_of(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""
