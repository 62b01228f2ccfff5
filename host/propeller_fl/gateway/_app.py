"""The routes as an ASGI application.

Errors are JSON: ``{"error": what, "where": field or parameter, "try": what to do}``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import LinkError, MessageError, PropellerError, StoreError
from propeller_fl.gateway._access import OPEN_PATHS, Rules
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._gateway import Gateway
from propeller_fl.gateway._openapi import openapi
from propeller_fl.gateway._routes import JSON, OPERATIONS, Call, Operation
from propeller_fl.link import is_loopback
from propeller_fl.web import CALLER, Bodies, Gate, HttpGuard

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Of a request; no message on the broker is larger."""


def api_app(
    gateway: Gateway, config: GatewayConfig, guard: HttpGuard, body_patience_s: float = 30.0
) -> ASGIApp:
    """The routes behind their gate. Where ``guard`` knows nobody, everybody may do everything,
    and on an address of this machine only under a name of it."""
    rules = Rules(guard.knows is not None, config.open_routes)
    return Gate(
        _routes(gateway, rules, Bodies(body_patience_s)),
        guard.knows,
        config.max_requests_per_s,
        max_body_bytes=MAX_BODY_BYTES,
        open_paths=OPEN_PATHS,
        opens=rules.opens,
        at_home=is_loopback(config.http_host),
    )


def _routes(gateway: Gateway, rules: Rules, bodies: Bodies) -> Starlette:
    document = openapi()

    async def show_openapi(request: Request) -> Response:
        return JSONResponse(document)

    routes = [
        Route(op.path, _endpoint(gateway, op, rules, bodies), methods=[op.method])
        for op in OPERATIONS
    ]
    app = Starlette(
        routes=[*routes, Route("/openapi.json", show_openapi)],
        exception_handlers={
            HTTPException: _http_failure,
            PropellerError: _failure,
            MessageError: _failure,
            LinkError: _failure,
            StoreError: _failure,
            Refusal: _failure,
        },
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(
    gateway: Gateway, op: Operation, rules: Rules, bodies: Bodies
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        caller = request.scope[CALLER]
        rules.check(op, caller)
        body = b""
        if op.body:
            media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != op.media_type:
                raise Refusal(415, f"content-type is {media_type[:80]!r}", hint=op.media_type)
            body = await bodies.read(request)
        call = Call(
            dict(request.path_params),
            dict(request.query_params),
            body,
            rules.speaker(op, caller),
            rules.trusts(caller),
        )
        status, said = await run_in_threadpool(op.handle, gateway, call)
        if status == 204:
            return Response(status_code=204)
        data = said if isinstance(said, bytes) else json.dumps(said, allow_nan=False).encode()
        return Response(data, status, media_type=JSON)

    return answer


async def _failure(request: Request, error: Exception) -> Response:
    where, hint, status = "", "", 503
    if isinstance(error, PropellerError):
        hint = error.hint
    if isinstance(error, MessageError):
        status, where = 400, error.field
    elif isinstance(error, Refusal):
        status, where = error.status, error.where
    said = {"error": str(error.args[0]), "where": where, "try": hint}
    return JSONResponse(
        {name: text for name, text in said.items() if text or name == "error"}, status
    )


async def _http_failure(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # as registered above
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
