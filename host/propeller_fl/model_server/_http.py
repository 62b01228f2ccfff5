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

import hashlib
import logging
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from propeller_fl.errors import DamagedStoreError, MessageError, StoreError
from propeller_fl.store import ModelFormat, ModelsDir, StoredModel, convert
from propeller_fl.web import Gate, HttpGuard, WebServer
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
_PIECE_BYTES: Final = 64 * 1024  # of a model in memory for each client


def http_face(
    models: ModelsDir,
    host: str,
    port: int,
    broker_up: Callable[[], bool],
    patience_s: float,
    *,
    guard: HttpGuard,
    max_requests_per_s: float,
) -> WebServer:
    """A server of ``models`` on ``host`` and ``port`` (0: a free one); ``guard`` says to whom.

    Raises :class:`ConfigError` where nobody can listen there.
    """
    app = Gate(models_app(models, broker_up), guard.knows, max_requests_per_s)
    return WebServer(app, host, port, section="model_server", patience_s=patience_s, tls=guard.tls)


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
