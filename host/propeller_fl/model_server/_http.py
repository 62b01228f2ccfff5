"""The models directory over HTTP, for reading.

``GET /models``             list: version, format, size_bytes, sha256, ascending
``GET /models/{version}``   the bytes as published; ``/models/latest`` likewise
``GET /healthz``            ``{"status": "ok", "models": …, "broker": "up" | "down"}``

The ETag is the SHA-256 of the bytes. If-None-Match, Range (one range), If-Range and HEAD work as
RFC 9110 has them.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from propeller_fl.errors import ConfigError, StoreError
from propeller_fl.store import ModelsDir, StoredModel
from propeller_fl.wire import Format

_log = logging.getLogger(__name__)

_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_RANGE: Final = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)
_MEDIA_TYPES: Final = {Format.JSON: "application/json", Format.CBOR: "application/cbor"}
_FOR_EVER: Final = "public, max-age=31536000, immutable"  # a version never changes
_GOODBYE_S: Final = 2


class HttpFace:
    """Serves ``models`` on ``host`` and ``port`` (0: a free one) from a thread of its own."""

    def __init__(
        self, models: ModelsDir, host: str, port: int, broker_up: Callable[[], bool]
    ) -> None:
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            models_app(models, broker_up),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GOODBYE_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="model-server-http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Answer what is under way, and end."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._socket.close()
        if self._thread.is_alive():
            _log.warning("the HTTP server did not end within %g s", timeout_s)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def models_app(models: ModelsDir, broker_up: Callable[[], bool]) -> Starlette:
    """The routes as an ASGI application."""

    def list_models(request: Request) -> Response:
        return JSONResponse(
            [
                {
                    "version": model.version,
                    "format": str(model.format),
                    "size_bytes": model.size_bytes,
                    "sha256": model.sha256,
                }
                for model in models.versions()
            ]
        )

    def latest(request: Request) -> Response:
        model = models.latest()
        if model is None:
            raise HTTPException(404, "there is no model yet")
        headers = {"content-location": f"/models/{model.version}", "cache-control": "no-cache"}
        return _model_response(request, models, model, headers)

    def one(request: Request) -> Response:
        text = request.path_params["version"]
        if not _VERSION.fullmatch(text):
            raise HTTPException(404, "a version is a whole number, or latest")
        model = models.find(int(text))
        if model is None:
            raise HTTPException(404, f"there is no model version {text}")
        return _model_response(request, models, model, {"cache-control": _FOR_EVER})

    def health(request: Request) -> Response:
        return JSONResponse(
            {
                "status": "ok",
                "models": len(models.versions()),
                "broker": "up" if broker_up() else "down",
            }
        )

    def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 503)

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # as registered below
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    app = Starlette(
        routes=[
            Route("/models", list_models),
            Route("/models/latest", latest),
            Route("/models/{version}", one),
            Route("/healthz", health),
        ],
        exception_handlers={StoreError: failed, HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app


def _model_response(
    request: Request, models: ModelsDir, model: StoredModel, headers: dict[str, str]
) -> Response:
    etag = f'"{model.sha256}"'
    headers = {**headers, "etag": etag, "accept-ranges": "bytes"}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    media_type = _MEDIA_TYPES[model.format]
    wanted: range | None = None
    if request.headers.get("if-range", etag) == etag:
        wanted = _one_range(request.headers.get("range", ""), model.size_bytes)
    if wanted is None:
        return Response(models.read(model.version), media_type=media_type, headers=headers)
    if not wanted:
        headers["content-range"] = f"bytes */{model.size_bytes}"
        return JSONResponse({"error": "no such range"}, 416, headers=headers)
    headers["content-range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{model.size_bytes}"
    part = models.read(model.version)[wanted.start : wanted.stop]
    return Response(part, 206, media_type=media_type, headers=headers)


def _names(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip() for tag in if_none_match.split(",")]
    return "*" in tags or etag in [tag.removeprefix("W/") for tag in tags]


def _one_range(header: str, size_bytes: int) -> range | None:
    """The bytes asked for, empty if there are none such; ``None`` when all are to be sent: no
    range, several, or one that cannot be read (RFC 9110 lets a server ignore those)."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size_bytes - int(last)), size_bytes)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size_bytes, int(last) + 1) if last else size_bytes)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)  # from here on a client waits, and is not turned away
        except BaseException:
            listener.close()
            raise
    except OSError as err:
        raise ConfigError(
            f"model_server: cannot listen on {host}:{port}: {err.strerror}",
            hint="set model_server.http_port to another port, or 0 for a free one",
        ) from err
    return listener
