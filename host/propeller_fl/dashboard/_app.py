"""The page and its routes.

``GET /``                        the page, with ``/static/…``; says nothing about the deployment
``GET /api/me``                  who looks, and what they may
``POST /api/login``, ``/logout`` a cookie for ``{"token": …}``, and none
``GET /api/stream``              server-sent events: ``snapshot``, then ``changes``
``GET /api/snapshot``            the same snapshot, for scripts
``GET /api/rounds/{id}``         a round with its participants and its story
``POST /api/rounds``             starts one: a RoundStart message
``POST /api/rounds/{id}/stop``   stops one: a RoundStop message
``POST /api/experiments``        starts one: ``{"toml": …}``, as in a file
``POST /api/experiments/{id}/command``  pauses, resumes, stops one: an ExperimentCommand message
``GET /models/{N}?format=``      a model's document, or the model in another form
``GET /healthz``                 ``{"status": "ok", "broker": "up" | "down"}``
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from propeller_fl.config import DashboardConfig
from propeller_fl.dashboard._dashboard import Dashboard, opened
from propeller_fl.dashboard._guard import (
    COOKIE,
    MAX_BODY_BYTES,
    DashboardGuard,
    Door,
    Fence,
    Visitor,
    refused,
)
from propeller_fl.errors import ConfigError, LinkError, MessageError, RequestError
from propeller_fl.learn import strategy_arguments, strategy_names
from propeller_fl.operator import parse_experiment
from propeller_fl.store import ModelFormat, convert
from propeller_fl.web import WebServer
from propeller_fl.wire import (
    ExperimentCommand,
    ExperimentPhase,
    ExperimentStatus,
    Manifest,
    RoundStart,
    RoundStop,
    UpdateFormat,
    decode_document,
)

_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_KINDS: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_PATIENCE_S: Final = 15.0  # with a client that does not send or read
_AT_ONCE: Final = 64  # requests that wait for an answer over MQTT


def web_face(dashboard: Dashboard, config: DashboardConfig, guard: DashboardGuard) -> WebServer:
    """Serves the page at ``config.http_host`` and ``http_port``. Raises :class:`ConfigError`."""
    return WebServer(
        dashboard_app(dashboard, Door(guard)),
        config.http_host,
        config.http_port,
        section="dashboard",
        patience_s=_PATIENCE_S,
        tls=guard.tls,
        threads=_AT_ONCE,
    )


def dashboard_app(dashboard: Dashboard, door: Door) -> Fence:
    """The routes as an ASGI application."""
    routes = _Routes(dashboard, door)
    app = Starlette(
        routes=[
            Route("/", _static),
            Route("/static/{name}", _static),
            Route("/healthz", routes.health),
            Route("/api/me", routes.me),
            Route("/api/login", routes.login, methods=["POST"]),
            Route("/api/logout", routes.logout, methods=["POST"]),
            Route("/api/stream", routes.seen(routes.stream)),
            Route("/api/snapshot", routes.seen(routes.snapshot)),
            Route("/api/rounds", routes.done(routes.start_round), methods=["POST"]),
            Route("/api/rounds/{round_id}", routes.seen(routes.round)),
            Route("/api/rounds/{name}/stop", routes.done(routes.stop_round), methods=["POST"]),
            Route("/api/experiments", routes.done(routes.start_experiment), methods=["POST"]),
            Route(
                "/api/experiments/{name}/command",
                routes.done(routes.command_experiment),
                methods=["POST"],
            ),
            Route("/models/{version}", routes.seen(routes.model)),
        ],
        exception_handlers={
            MessageError: _refused_message,
            RequestError: _failed,
            LinkError: _failed,
            ConfigError: _failed,
        },
    )
    app.router.redirect_slashes = False
    return Fence(app, door)


class _Routes:
    def __init__(self, dashboard: Dashboard, door: Door) -> None:
        self._dashboard = dashboard
        self._door = door

    def seen(self, route: Callable[[Request, Visitor], Any]) -> Callable[[Request], Any]:
        """A route for those who may look."""

        async def guarded(request: Request) -> Response:
            visitor = await run_in_threadpool(self._door.visitor, request)
            if visitor is None:
                return refused(401, "a token is wanted", "log in with an operator's or observer's")
            response: Response = await route(request, visitor)
            return response

        return guarded

    def done(self, route: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """A route that changes something, for those who may."""

        async def permitted(request: Request, visitor: Visitor) -> Response:
            if not visitor.may_start:
                what = "only an operator may start and stop anything"
                return refused(403, what, "log in as the operator")
            response: Response = await route(request)
            return response

        return self.seen(permitted)

    async def health(self, request: Request) -> Response:
        broker = "up" if self._dashboard.broker_up else "down"
        return JSONResponse({"status": "ok", "broker": broker})

    async def me(self, request: Request) -> Response:
        visitor = await run_in_threadpool(self._door.visitor, request)
        return JSONResponse(
            {
                "needs_token": self._door.needs_token,
                "known": visitor is not None,
                "name": visitor.name if visitor else "",
                "may_start": visitor is not None and visitor.may_start,
                "choices": _choices() if visitor else {},
            }
        )

    async def login(self, request: Request) -> Response:
        wait_s = self._door.wait_s(request)
        if wait_s:
            response = refused(429, "too many tries")
            response.headers["retry-after"] = str(int(wait_s) + 1)
            return response
        token = str(decode_document(await _body(request)).get("token", "")).strip()
        visitor = await run_in_threadpool(self._door.knows, token)
        if visitor is None:
            return refused(
                401,
                "nobody who may look has this token",
                "`token` in access/credentials/operator.json or observer.json of the deployment",
            )
        response = JSONResponse({"name": visitor.name, "may_start": visitor.may_start})
        response.set_cookie(
            COOKIE,
            self._door.open(token),
            path="/",
            httponly=True,
            samesite="strict",
            secure=self._door.secure,
        )
        return response

    async def logout(self, request: Request) -> Response:
        self._door.close(request.cookies.get(COOKIE, ""))
        response = JSONResponse({})
        response.delete_cookie(COOKIE, path="/")
        return response

    async def stream(self, request: Request, visitor: Visitor) -> Response:
        events = await self._dashboard.pages(lambda: self._door.visitor(request) is not None)
        return StreamingResponse(events, media_type="text/event-stream")

    async def snapshot(self, request: Request, visitor: Visitor) -> Response:
        return JSONResponse(await run_in_threadpool(self._dashboard.snapshot))

    async def round(self, request: Request, visitor: Visitor) -> Response:
        found = await run_in_threadpool(self._dashboard.round, request.path_params["round_id"])
        return JSONResponse(found) if found else refused(404, "there is no such round here")

    async def start_round(self, request: Request) -> Response:
        start = RoundStart.decode(await _body(request))
        status = await run_in_threadpool(self._dashboard.start_round, start)
        if not opened(status):
            return refused(409, f"round {start.round_id} is refused: {status.detail}")
        return JSONResponse({"round_id": start.round_id, "phase": str(status.phase)}, 201)

    async def stop_round(self, request: Request) -> Response:
        stop = RoundStop.received(request.path_params["name"], await _body(request))
        status = await run_in_threadpool(self._dashboard.stop_round, stop)
        if not opened(status):
            return refused(409, f"there is no round {stop.round_id}: {status.detail}")
        return JSONResponse(
            {"round_id": stop.round_id, "phase": str(status.phase), "detail": status.detail}
        )

    async def start_experiment(self, request: Request) -> Response:
        text = decode_document(await _body(request)).get("toml")
        try:
            start = parse_experiment(str(text or ""), "this text")
        except RequestError as err:
            return refused(400, str(err.args[0]), err.hint)
        status = await run_in_threadpool(self._dashboard.start_experiment, start)
        if status.phase is ExperimentPhase.REFUSED:
            return refused(409, f"experiment {start.experiment_id} is refused: {status.detail}")
        return _stands(status, 201)

    async def command_experiment(self, request: Request) -> Response:
        said = ExperimentCommand.decode(await _body(request))
        if said.experiment_id != request.path_params["name"]:
            return refused(400, f"it names the experiment {said.experiment_id}")
        return _stands(await run_in_threadpool(self._dashboard.command_experiment, said))

    async def model(self, request: Request, visitor: Visitor) -> Response:
        text = request.path_params["version"]
        form = request.query_params.get("format", "")
        if not _VERSION.fullmatch(text) or (form and form not in list(ModelFormat)):
            return refused(400, f"a version, and one of {', '.join(ModelFormat)}, are wanted")
        document = await run_in_threadpool(self._dashboard.document, int(text))
        if form and Manifest.decode(document) is not None:
            return refused(
                406,
                f"model {text} travels in parts",
                f"propeller-fl model get {text} --format {form} -o FILE",
            )
        data = await run_in_threadpool(convert, document, ModelFormat(form)) if form else document
        suffix = form or ("json" if document[:1] == b"{" else "cbor")
        name = f"global_model_v{text}.{suffix}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(data, headers=headers, media_type="application/octet-stream")


def _stands(status: ExperimentStatus, code: int = 200) -> JSONResponse:
    found = {"experiment_id": status.experiment_id, "phase": str(status.phase)}
    return JSONResponse(found | {"detail": status.detail}, code)


async def _body(request: Request) -> bytes:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:  # whatever was said of its length
            break
    return data


async def _static(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    found = _FILES.get(name)
    if found is None:
        return refused(404, "there is no such file")
    kind = _KINDS[name.rpartition(".")[2]]
    return Response(found, headers={"cache-control": "no-cache"}, media_type=kind)


def _choices() -> dict[str, Any]:
    return {
        "strategies": {
            name: {key: default for key, (_, default) in strategy_arguments(name).items()}
            for name in strategy_names()
        },
        "update_formats": [form.value for form in UpdateFormat],
        "images": ["builtin:linear", "builtin:softmax", "builtin:activity"],
    }


async def _refused_message(request: Request, error: Exception) -> Response:
    assert isinstance(error, MessageError)  # as registered above
    return refused(400, str(error.args[0]), error.hint, error.field)


async def _failed(request: Request, error: Exception) -> Response:
    hint = getattr(error, "hint", "")
    status = 404 if isinstance(error, RequestError) and "no model" in str(error.args[0]) else 503
    return refused(status, str(error.args[0]), hint)


_FILES: Final = {
    file.name: file.read_bytes()
    for file in (resources.files("propeller_fl.dashboard") / "static").iterdir()
    if file.name.rpartition(".")[2] in _KINDS
}
