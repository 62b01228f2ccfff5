"""The models directory over HTTP, for reading.

``GET /models``             list: version, format, size_bytes, sha256, ascending
``GET /models/{version}``   the bytes as published; ``/models/latest`` likewise. With ``?format=``
                            ``json``, ``cbor``, ``safetensors`` or ``npz``, or with ``Accept`` for
                            one of their media types, the same model in that form
``GET /healthz``            ``{"status": "ok", "models": …, "broker": "up" | "down"}``

The ETag is the SHA-256 of the bytes that are sent. If-None-Match, Range (one range), If-Range and
HEAD work as RFC 9110 has them. A body is sent as fast as it is read, a piece at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from propeller_fl.errors import ConfigError, DamagedStoreError, MessageError, StoreError
from propeller_fl.model_server._gate import Gate, HttpGuard
from propeller_fl.model_server._visitors import accept_visitors
from propeller_fl.store import ModelFormat, ModelsDir, StoredModel, convert
from propeller_fl.wire import Manifest

_log = logging.getLogger(__name__)

_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_RANGE: Final = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)
_MEDIA_TYPES: Final = {
    ModelFormat.JSON: "application/json",
    ModelFormat.CBOR: "application/cbor",
    ModelFormat.SAFETENSORS: "application/x-safetensors",  # the last two are not registered
    ModelFormat.NPZ: "application/x-npz",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"  # a version never changes
_GOODBYE_S: Final = 2
_PIECE_BYTES: Final = 64 * 1024  # of a model in memory for each client
_MAX_HEAD_BYTES: Final = 16 * 1024


class HttpFace:
    """Serves ``models`` on ``host`` and ``port`` (0: a free one) from a thread of its own.

    It hangs up on a client that lets it wait for ``patience_s``. ``guard`` says whom it serves.
    """

    def __init__(
        self,
        models: ModelsDir,
        host: str,
        port: int,
        broker_up: Callable[[], bool],
        patience_s: float,
        *,
        guard: HttpGuard,
        max_requests_per_s: float,
    ) -> None:
        self._patience_s = patience_s
        self._tls = guard.tls
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            Gate(models_app(models, broker_up), guard.knows, max_requests_per_s),
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GOODBYE_S,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="model-server-http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has; nobody is served any more."""
        return self._failure

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
        try:
            asyncio.run(self._serve())
        except Exception as err:
            _log.critical("the HTTP server has stopped", exc_info=True)
            self._failure = err

    async def _serve(self) -> None:
        await run_in_threadpool(bool)  # loads what cannot be loaded when no descriptor is left
        self._server.config.load()
        accepting = asyncio.create_task(
            accept_visitors(self._socket, self._server, self._patience_s, self._tls)
        )
        try:
            await self._server.serve(sockets=[])
        finally:
            accepting.cancel()


def models_app(models: ModelsDir, broker_up: Callable[[], bool]) -> Starlette:
    """The routes as an ASGI application."""
    forms = _Forms(models)

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
        return _model_response(request, forms, model, headers)

    def one(request: Request) -> Response:
        text = request.path_params["version"]
        if not _VERSION.fullmatch(text):
            raise HTTPException(404, "a version is a whole number, or latest")
        model = models.find(int(text))
        if model is None:
            raise HTTPException(404, f"there is no model version {text}")
        return _model_response(request, forms, model, {"cache-control": _FOR_EVER})

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
        exception_handlers={
            StoreError: failed,
            DamagedStoreError: failed,
            HTTPException: refused,
        },
    )
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True, slots=True)
class _Body:
    """What is sent of a model: ``open`` it only when it is."""

    media_type: str
    size_bytes: int
    sha256: str
    open: Callable[[], BinaryIO]


def _model_response(
    request: Request, forms: _Forms, model: StoredModel, headers: dict[str, str]
) -> Response:
    body = forms.body_of(model, _wanted_format(request, model))
    etag = f'"{body.sha256}"'
    headers = {**headers, "etag": etag, "accept-ranges": "bytes", "vary": "accept"}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    wanted: range | None = None
    if request.headers.get("if-range", etag) == etag:
        wanted = _one_range(request.headers.get("range", ""), body.size_bytes)
    if wanted is not None and not wanted:
        headers["content-range"] = f"bytes */{body.size_bytes}"
        return JSONResponse({"error": "no such range"}, 416, headers=headers)
    if wanted is not None:
        headers["content-range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{body.size_bytes}"
    part = range(body.size_bytes) if wanted is None else wanted
    headers["content-length"] = str(len(part))
    status = 200 if wanted is None else 206
    if request.method == "HEAD":
        return Response(b"", status, headers, body.media_type)
    return StreamingResponse(_pieces(body.open(), part), status, headers, body.media_type)


def _wanted_format(request: Request, model: StoredModel) -> ModelFormat:
    """What the query says, or else the one form that Accept names, or else as published."""
    named = request.query_params.get("format")
    if named is not None:
        if named not in list(ModelFormat):
            raise HTTPException(400, f"format is one of {', '.join(ModelFormat)}")
        return ModelFormat(named)
    accepted = [
        part.partition(";")[0].strip().lower()
        for part in request.headers.get("accept", "").split(",")
    ]
    of_ours = [form for form, media_type in _MEDIA_TYPES.items() if media_type in accepted]
    if len(of_ours) == 1 and "*/*" not in accepted:
        return of_ours[0]
    return ModelFormat(str(model.format))


class _Forms:
    """Models in forms that have to be made. One is made at a time and only the last kept, and what
    is sent of it is a file, so that no crowd of clients can fill the memory."""

    def __init__(self, models: ModelsDir) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._last: tuple[str, ModelFormat, bytes] = ("", ModelFormat.JSON, b"")

    def body_of(self, model: StoredModel, form: ModelFormat) -> _Body:
        media_type = _MEDIA_TYPES[form]
        if form == str(model.format):
            return _Body(
                media_type,
                model.size_bytes,
                model.sha256,
                lambda: self._models.open(model.version),
            )
        content = self._models.content(model.version)
        if content is not None:
            return self._large_body(model, form, content)
        with self._lock:
            data = self._made(model, form)
            sha256 = hashlib.sha256(data).hexdigest()
            return _Body(media_type, len(data), sha256, lambda: self._file_of(model, form))

    def _large_body(self, model: StoredModel, form: ModelFormat, content: Path) -> _Body:
        """A model that is published as a manifest: its file as it lies there, and no other form."""
        manifest = Manifest.decode(self._models.read(model.version))
        if manifest is None or form is not ModelFormat.SAFETENSORS:
            raise HTTPException(406, f"model {model.version} is too large for any but safetensors")
        return _Body(
            _MEDIA_TYPES[form], manifest.size_bytes, manifest.sha256, lambda: content.open("rb")
        )

    def _file_of(self, model: StoredModel, form: ModelFormat) -> BinaryIO:
        with self._lock:
            data = self._made(model, form)
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115, whoever sends it closes it
            file.write(data)
        except OSError as err:
            raise StoreError(f"a model cannot be converted: {err.strerror}") from err
        return cast(BinaryIO, file)

    def _made(self, model: StoredModel, form: ModelFormat) -> bytes:
        sha256, last_form, data = self._last
        if (sha256, last_form) != (model.sha256, form):
            try:
                data = convert(self._models.read(model.version), form)
            except MessageError as err:
                detail = f"model {model.version} cannot be had as {form}: {err}"
                raise HTTPException(406, detail) from err
            self._last = (model.sha256, form, data)
        return data


def _pieces(file: BinaryIO, part: range) -> Iterator[bytes]:
    with file:
        file.seek(part.start)
        left_bytes = len(part)
        while left_bytes:
            piece = file.read(min(left_bytes, _PIECE_BYTES))
            if not piece:
                raise StoreError(f"{file.name} has become shorter")
            left_bytes -= len(piece)
            yield piece


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
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as err:
        raise ConfigError(
            f"model_server: cannot listen on {host}:{port}: {err.strerror}",
            hint="set model_server.http_port to another port, or 0 for a free one",
        ) from err
    return listener
