"""Who may ask the HTTP face, how often, and with how much."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propeller_fl.errors import PropellerError
from propeller_fl.web import RateLimit

_MAX_BODY_BYTES: Final = 64 * 1024  # no route takes a body
_OPEN: Final = ("/healthz",)  # says nothing worth a token


@dataclass(frozen=True, slots=True)
class HttpGuard:
    """``tls``      of the server; None: plain HTTP
    ``knows``    the name of whom a token belongs to, or None; None: nobody needs one"""

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    knows: Callable[[str], str | None] | None = None


class Gate:
    """ASGI: lets through to ``app`` who has a token and patience.

    401 without a token that ``knows`` knows; 429 for who asks more than ``per_s`` in the long run,
    by identity, else by address; 413 for a body that is too large, whatever was said of its size.
    Who guesses tokens is slowed down by address, to a tenth of that.
    """

    def __init__(
        self,
        app: ASGIApp,
        knows: Callable[[str], str | None] | None,
        per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._knows = knows
        self._clock = clock
        self._asking = RateLimit(per_s, 2 * per_s)
        self._guessing = RateLimit(per_s / 10, per_s / 5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _Bounded(receive), send)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        address = str((scope.get("client") or ("?",))[0])
        now_s = self._clock()
        who = f"at {address}"
        if self._knows is not None and scope["path"] not in _OPEN:
            try:
                name = self._name(headers)
            except PropellerError as err:
                return _refused(503, f"tokens cannot be looked up: {err}", {})
            if name is None:
                wait_s = self._guessing.wait_s(address, now_s)
                return (
                    _later(wait_s)
                    if wait_s
                    else _refused(401, "a token is wanted", {"www-authenticate": "Bearer"})
                )
            who = f"is {name}"
        wait_s = self._asking.wait_s(who, now_s)
        if wait_s:
            return _later(wait_s)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > _MAX_BODY_BYTES:
            return _refused(
                413, f"a body may have {_MAX_BODY_BYTES} bytes", {"connection": "close"}
            )
        return None

    def _name(self, headers: Headers) -> str | None:
        assert self._knows is not None
        given = headers.getlist("authorization")
        if len(given) != 1:  # two might be read as one by us and as the other elsewhere
            return None
        scheme, _, token = given[0].partition(" ")
        return self._knows(token) if scheme.lower() == "bearer" else None


class _Bounded:
    """Gives the app no more of a body than it may have; it sees the rest as a broken connection."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left_bytes = _MAX_BODY_BYTES

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left_bytes -= len(message.get("body", b""))
            if self._left_bytes < 0:
                return {"type": "http.disconnect"}
        return message


def _later(wait_s: float) -> JSONResponse:
    return _refused(429, "too many requests", {"retry-after": str(int(wait_s) + 1)})


def _refused(status: int, why: str, headers: Mapping[str, str]) -> JSONResponse:
    return JSONResponse({"error": why}, status, headers=dict(headers))
