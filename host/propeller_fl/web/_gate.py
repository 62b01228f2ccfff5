"""Who may ask the HTTP face, how often, and with how much."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propeller_fl.errors import ConfigError, PropellerError
from propeller_fl.link import is_loopback
from propeller_fl.web._rate import RateLimit

CALLER: Final = "propeller_fl.caller"
"""In the scope of a request: the :class:`Caller` who showed a token, or None."""

_MAX_BODY_BYTES: Final = 64 * 1024
# of a path as it was sent: what proxies, and who reads names as files, may take for another path
_TRICKS: Final = re.compile(rb"%2f|%5c|%00|\\|//|/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token was shown; ``role`` is for the face to read."""

    name: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class HttpGuard:
    """``tls``      of the server; None: plain HTTP
    ``knows``    whom a token belongs to, or None; None: nobody needs one"""

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    knows: Callable[[str], Caller | None] | None = None

    def check_plain(self, host: str, section: str, what: str, *, allow_plain: bool) -> None:
        """Raises :class:`ConfigError` where ``what`` ("metrics would be served") would reach beyond
        this machine without TLS, though ``section``'s ``allow_plain`` does not allow it."""
        if self.tls is None and not allow_plain and not is_loopback(host):
            raise ConfigError(
                f"{what} on {host} without TLS and tokens",
                hint="`propeller-fl init` makes both; on a network that you trust altogether, set "
                f"{section}.allow_plain to true",
            )


class Gate:
    """ASGI: lets through to ``app`` who has a token and patience.

    401 without a token that ``knows`` knows; 429 for who asks more than ``per_s`` in the long run,
    by identity, else by address; 413 for a body that is too large, whatever was said of its size.
    Who guesses tokens is slowed down by address, to a tenth of that. 404 for a path that another
    reader might take for a different one, 400 for a body of two lengths.

    ``open_paths``  take no token, and look at none
    ``opens``       (method, path) that takes none either; one that is shown must be good
    ``at_home``     who shows no token must call us by a name of this machine alone (421): a browser
                    here may be led to us under somebody's name, whose pages then read the answers
    """

    def __init__(
        self,
        app: ASGIApp,
        knows: Callable[[str], Caller | None] | None,
        per_s: float,
        *,
        max_body_bytes: int = _MAX_BODY_BYTES,
        open_paths: tuple[str, ...] = ("/healthz",),
        opens: Callable[[str, str], bool] = lambda method, path: False,
        at_home: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._knows = knows
        self._max_body_bytes = max_body_bytes
        self._open_paths = open_paths
        self._opens = opens
        self._at_home = at_home
        self._clock = clock
        self._asking = RateLimit(per_s, max(1.0, 2 * per_s))
        self._guessing = RateLimit(per_s / 10, max(1.0, per_s / 5))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope[CALLER] = self._admit(scope, Headers(scope=scope))
            await self._app(scope, _Bounded(receive, self._max_body_bytes), send)
        except HTTPException as err:
            await JSONResponse({"error": err.detail}, err.status_code, headers=err.headers)(
                scope, receive, send
            )

    def _admit(self, scope: Scope, headers: Headers) -> Caller | None:
        """Who asks, if he said so. Raises ``HTTPException`` for who may not come in."""
        address = str((scope.get("client") or ("?",))[0])
        now_s = self._clock()
        caller = None
        if self._wants_token(scope, headers):
            caller = self._identified(headers)
            if caller is None:
                _wait(self._guessing.wait_s(address, now_s))
                raise HTTPException(401, "a token is wanted", {"www-authenticate": "Bearer"})
        _wait(self._asking.wait_s(f"is {caller.name}" if caller else f"at {address}", now_s))
        if caller is None and self._at_home and not _is_home(headers.get("host", "")):
            raise HTTPException(421, "this is not the host that was asked for")
        if _TRICKS.search(scope.get("raw_path") or b""):
            raise HTTPException(404, "no such path")
        self._check_length(headers)
        return caller

    def _wants_token(self, scope: Scope, headers: Headers) -> bool:
        if self._knows is None or scope["path"] in self._open_paths:
            return False
        return "authorization" in headers or not self._opens(scope["method"], scope["path"])

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._max_body_bytes:
            raise HTTPException(413, f"a body may have {self._max_body_bytes} bytes")
        if "content-length" in headers and "transfer-encoding" in headers:
            raise HTTPException(400, "a body has one length, or comes in chunks")

    def _identified(self, headers: Headers) -> Caller | None:
        assert self._knows is not None
        given = headers.getlist("authorization")
        if len(given) != 1:  # two might be read as one by us and as the other elsewhere
            return None
        scheme, _, token = given[0].partition(" ")
        try:
            return self._knows(token) if scheme.lower() == "bearer" else None
        except PropellerError as err:
            raise HTTPException(503, f"tokens cannot be looked up: {err}") from err


class _Bounded:
    """Gives the app no more of a body than it may have."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._left_bytes = max_bytes

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left_bytes -= len(message.get("body", b""))
            if self._left_bytes < 0:
                raise HTTPException(413, f"a body may have {self._max_bytes} bytes")
        return message


def _is_home(host: str) -> bool:
    """Whether ``host``, of a request, can only be this machine; one without any is no browser's."""
    name = host if host.endswith("]") or ":" not in host else host.rpartition(":")[0]
    return not name or is_loopback(name.strip("[]"))


def _wait(wait_s: float) -> None:
    if wait_s:
        raise HTTPException(429, "too many requests", {"retry-after": str(int(wait_s) + 1)})
