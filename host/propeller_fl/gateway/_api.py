"""The routes, in one table: what is served, what is documented, and what is read of a request.

Errors are JSON: ``{"error": what, "where": field or parameter, "try": what to do}``.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from propeller_fl import __version__
from propeller_fl.errors import LinkError, MessageError, PropellerError, StoreError
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._gateway import Gateway
from propeller_fl.wire import Format, decode_document, format_of

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Of a request; no message on the broker is larger."""

_BODY_S: Final = 30.0  # how long a body may take to come
_OPEN: Final = frozenset(("/health", "/openapi.json"))  # without a token
_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_MAX_PAGE: Final = 100

_JSON: Final = "application/json"
_CBOR: Final = "application/cbor"


@dataclass(frozen=True, slots=True)
class Call:
    """What is read of a request."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ``MessageError``."""
        if self.body and format_of(self.body) is Format.CBOR:
            raise Refusal(400, "the body is no JSON object")
        return decode_document(self.body)

    def number(self, name: str, default: int, most: int) -> int:
        text = self.query.get(name, str(default))
        if not _VERSION.fullmatch(text) or int(text) > most:
            raise Refusal(400, f"{name} is {text[:40]!r}", where=name, hint=f"from 0 to {most}")
        return int(text)


Answer = tuple[int, Any]  # status, and a document for JSON; bytes are JSON already


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Gateway, Call], Answer]
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "Any"})
    body: str = ""  # name of a schema
    media_type: str = _JSON
    query: tuple[str, ...] = ()  # parameters; those that must be there end in !
    errors: tuple[int, ...] = ()


# --- what the routes do


def _health(gateway: Gateway, call: Call) -> Answer:
    return 200, {"status": "ok", "broker": "up" if gateway.broker_up else "down"}


def _experiment(gateway: Gateway, call: Call) -> dict[str, Any]:
    wanted = call.document()
    start = gateway.start_round(wanted)
    said = {"experiment_id": str(wanted.get("experiment_id") or ""), "round_id": start.round_id}
    version = re.search(r"[0-9]+$", start.model_uri)
    return said | {"status": "configured", "model_version": int(version[0]) if version else 0}


def _update(gateway: Gateway, call: Call, wanted: Format) -> Answer:
    if not call.body or format_of(call.body) is not wanted:
        raise Refusal(400, f"the body is no {wanted.upper()} map")
    gateway.update(call.body)
    return 200, {"status": "accepted"}


def _post_model(gateway: Gateway, call: Call) -> Answer:
    document = call.document()
    version, model = document.get("version"), document.get("model")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 10**18:
        raise Refusal(400, "version is no whole number from 0", where="version")
    if not isinstance(model, dict):
        raise Refusal(400, "model is no object", where="model", hint="names and arrays")
    gateway.put_model(version, model)
    return 201, {"version": version, "status": "stored"}


def _get_model(gateway: Gateway, call: Call) -> Answer:
    text = call.path["version"]
    if not _VERSION.fullmatch(text):
        raise Refusal(404, "a version is a whole number", where="version")
    return 200, gateway.model(int(text))


def _round(gateway: Gateway, call: Call) -> Answer:
    said = gateway.round(call.path["round_id"])
    return 200, said | {
        "status": said
    }  # flat from the demo's coordinator, and as the manager has it


def _task(gateway: Gateway, call: Call) -> Answer:
    round_id = call.query.get("round_id", "")
    if not round_id:
        raise Refusal(400, "round_id is missing", where="round_id")
    return 200, {"task": gateway.task_of(round_id, call.query.get("proplet_id", ""))}


def _tasks(gateway: Gateway, call: Call) -> Answer:
    offset, limit = call.number("offset", 0, 10**9), call.number("limit", _MAX_PAGE, _MAX_PAGE)
    total, tasks = gateway.tasks(offset, limit)
    shown = [task.document() for task in tasks]
    return 200, {"offset": offset, "limit": limit, "total": total, "tasks": shown}


def _proplets(gateway: Gateway, call: Call) -> Answer:
    offset, limit = call.number("offset", 0, 10**9), call.number("limit", _MAX_PAGE, _MAX_PAGE)
    found = gateway.proplets()
    page = {"offset": offset, "limit": limit, "total": len(found)}
    return 200, page | {"proplets": found[offset : offset + limit]}


def _delete(gateway: Gateway, call: Call) -> Answer:
    gateway.delete_task(call.path["task_id"])
    return 204, None


def _started(gateway: Gateway, call: Call) -> Answer:
    gateway.start_task(call.path["task_id"])
    return 200, {"started": True}


def _stopped(gateway: Gateway, call: Call) -> Answer:
    gateway.stop_task(call.path["task_id"])
    return 200, {"stopped": True}


def _table() -> tuple[_Operation, ...]:
    op = _Operation
    rounds: dict[str, Any] = {
        "query": ("round_id!", "proplet_id"),
        "answers": {200: "RoundTask"},
        "errors": (404,),
    }
    page: dict[str, Any] = {"query": ("offset", "limit")}
    json_update: dict[str, Any] = {
        "body": "Update",
        "answers": {200: "Accepted"},
        "errors": (409, 504),
    }
    cbor_update = json_update | {"media_type": _CBOR}
    experiment: dict[str, Any] = {"body": "Experiment", "errors": (409, 504)}
    task: dict[str, Any] = {"errors": (404,)}
    return (
        op("GET", "/health", "health", "Whether it serves", _health, {200: "Health"}),
        op(
            *("POST", "/experiments", "experiment", "Start a round"),
            lambda g, c: (201, _experiment(g, c)),
            answers={201: "Configured"},
            **experiment,
        ),
        op(
            *("POST", "/fl/experiments", "fl_experiment", "The same, as a manager has it"),
            lambda g, c: (200, _experiment(g, c)),
            answers={200: "Configured"},
            **experiment,
        ),
        op("GET", "/task", "round_task", "What to do in a round", _task, **rounds),
        op("GET", "/fl/task", "fl_round_task", "The same", _task, **rounds),
        op(
            *("POST", "/update", "update", "Hand an update in"),
            lambda g, c: _update(g, c, Format.JSON),
            **json_update,
        ),
        op(
            *("POST", "/fl/update", "fl_update", "The same"),
            lambda g, c: _update(g, c, Format.JSON),
            **json_update,
        ),
        op(
            *("POST", "/update_cbor", "update_cbor", "Hand an update in, in CBOR"),
            lambda g, c: _update(g, c, Format.CBOR),
            **cbor_update,
        ),
        op(
            *("POST", "/fl/update_cbor", "fl_update_cbor", "The same"),
            lambda g, c: _update(g, c, Format.CBOR),
            **cbor_update,
        ),
        op(
            *("GET", "/rounds/next", "next_round", "The round that ended last"),
            lambda g, c: (200, g.last_round()),
            answers={200: "NextRound"},
        ),
        op(
            *("GET", "/rounds/{round_id}/complete", "round", "Where a round stands", _round),
            answers={200: "Round"},
            errors=(404,),
        ),
        op(
            *("GET", "/fl/rounds/{round_id}/complete", "fl_round", "The same", _round),
            answers={200: "Round"},
            errors=(404,),
        ),
        op(
            *("POST", "/models", "post_model", "Keep a model", _post_model),
            answers={201: "Stored"},
            body="Model",
            errors=(409,),
        ),
        op(
            *("GET", "/models", "models", "Which versions there are"),
            lambda g, c: (200, {"versions": g.versions()}),
            answers={200: "Versions"},
        ),
        op(
            *("GET", "/models/{version}", "model", "A model", _get_model),
            errors=(404,),
        ),
        op(
            *("GET", "/datasets/{proplet_id}", "dataset", "A proplet's data"),
            lambda g, c: (200, g.dataset(c.path["proplet_id"], rows=True)),
            answers={200: "Dataset"},
            errors=(404,),
        ),
        op(
            *("GET", "/arrays/datasets/{proplet_id}", "arrays", "The same, for our modules"),
            lambda g, c: (200, g.dataset(c.path["proplet_id"], rows=False)),
            answers={200: "Arrays"},
            errors=(404,),
        ),
        op("GET", "/proplets", "proplets", "Who is there", _proplets, {200: "Proplets"}, **page),
        op(
            *("GET", "/proplets/{proplet_id}", "proplet", "One of them"),
            lambda g, c: (200, g.proplet(c.path["proplet_id"])),
            errors=(404,),
        ),
        op(
            *("POST", "/tasks", "create_task", "Take a task down"),
            lambda g, c: (201, g.create_task(c.document()).document()),
            answers={201: "Task"},
            body="NewTask",
        ),
        op("GET", "/tasks", "tasks", "The tasks", _tasks, {200: "Tasks"}, **page),
        op(
            *("GET", "/tasks/{task_id}", "task", "One of them"),
            lambda g, c: (200, g.task(c.path["task_id"]).document()),
            answers={200: "Task"},
            **task,
        ),
        op(
            *("GET", "/tasks/{task_id}/results", "results", "What came of it"),
            lambda g, c: (200, {"results": g.task(c.path["task_id"]).results}),
            answers={200: "Results"},
            **task,
        ),
        op(
            *("DELETE", "/tasks/{task_id}", "delete_task", "Forget it", _delete),
            answers={204: ""},
            errors=(404, 409),
        ),
        op(
            *("POST", "/tasks/{task_id}/start", "start_task", "Give it to a proplet", _started),
            answers={200: "Started"},
            errors=(404, 409),
        ),
        op(
            *("POST", "/tasks/{task_id}/stop", "stop_task", "Have it stopped", _stopped),
            answers={200: "Stopped"},
            errors=(404, 409),
        ),
    )


OPERATIONS: Final = _table()


# --- what is documented


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


_TEXT: Final = {"type": "string"}
_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"}
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_FLAG: Final = {"type": "boolean"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_FLAT: Final = {
    "type": "object",
    "additionalProperties": {"anyOf": [_TEXT, _FLAG, {"type": "number"}]},
}
_ANY_OBJECT: Final = {"type": "object"}
_SCHEMAS: Final[dict[str, Any]] = {
    "Any": _ANY_OBJECT,
    "Error": _object("error", error=_TEXT, where=_TEXT, **{"try": _TEXT}),
    "Health": _object("status broker", status=_TEXT, broker=_TEXT),
    "Experiment": _object(
        "round_id participants",
        experiment_id=_TEXT,
        round_id=_ID,
        model_ref=_TEXT,
        participants={"type": "array", "items": _ID, "minItems": 1},
        hyperparams=_FLAT,
        k_of_n={"type": "integer", "minimum": 0},
        timeout_s={"type": "number", "minimum": 0, "maximum": 86_400},
        task_wasm_image=_TEXT,
    ),
    "Configured": _object(
        "experiment_id round_id status",
        experiment_id=_TEXT,
        round_id=_ID,
        status=_TEXT,
        model_version=_NUMBER,
    ),
    "RoundTask": _object(
        "task",
        task=_object(
            "round_id model_ref",
            round_id=_ID,
            model_ref=_TEXT,
            config=_ANY_OBJECT,
            hyperparams=_FLAT,
        ),
    ),
    "Update": _object(
        "round_id proplet_id base_model_uri num_samples update",
        round_id=_ID,
        proplet_id=_ID,
        base_model_uri=_TEXT,
        num_samples=_NUMBER,
        metrics=_ANY_OBJECT,
        update=_ANY_OBJECT,
    ),
    "Accepted": _object("status", status={"const": "accepted"}),
    "NextRound": _object("next_round_available", next_round_available=_FLAG),
    "Round": _object(
        "round_id completed num_updates k_of_n",
        round_id=_ID,
        completed=_FLAG,
        num_updates=_NUMBER,
        k_of_n=_NUMBER,
        model_version=_NUMBER,
    ),
    "Model": _object("version model", version=_NUMBER, model=_ANY_OBJECT),
    "Stored": _object("version status", version=_NUMBER, status=_TEXT),
    "Versions": _object("versions", versions={"type": "array", "items": _NUMBER}),
    "Arrays": _object("x y", x={"type": "array"}, y={"type": "array"}),
    "Dataset": _object(
        "proplet_id data size", proplet_id=_ID, data={"type": "array"}, size=_NUMBER
    ),
    "Proplets": _object("total proplets", total=_NUMBER, proplets={"type": "array"}),
    "NewTask": _object(
        "name",
        name={"type": "string", "minLength": 1, "maxLength": 256},
        image_url=_TEXT,
        file={"type": "string", "format": "byte"},
        cli_args=_TEXTS,
        inputs={"type": "array", "items": {"anyOf": [_TEXT, {"type": "number"}]}},
        env={"type": "object", "additionalProperties": _TEXT},
        daemon=_FLAG,
        broadcast=_FLAG,
        proplet_id=_ID,
        mode=_TEXT,
    ),
    "Task": _object("id name state", id=_TEXT, name=_TEXT, state=_NUMBER, proplet_id=_ID),
    "Tasks": _object("total tasks", total=_NUMBER, tasks={"type": "array"}),
    "Results": _object("results", results={"type": ["string", "null"]}),
    "Started": _object("started", started=_FLAG),
    "Stopped": _object("stopped", stopped=_FLAG),
}
_QUERY: Final = {
    "round_id": _ID,
    "proplet_id": _ID,
    "offset": {"type": "integer", "minimum": 0, "maximum": 10**9},
    "limit": {"type": "integer", "minimum": 0, "maximum": _MAX_PAGE},
}


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of all this."""
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        paths.setdefault(op.path, {})[op.method.lower()] = _documented(op)
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Propeller FL over HTTP", "version": __version__},
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": bearer}},
        "security": [{}, {"token": []}],
    }


def _documented(op: _Operation) -> dict[str, Any]:
    content: Callable[[str], dict[str, Any]] = lambda name: {  # noqa: E731
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    }
    responses: dict[str, Any] = {
        str(status): {"description": op.summary} | (content(name) if name else {})
        for status, name in op.answers.items()
    }
    failures = {400, 401, 503, *op.errors} | ({408, 413, 415} if op.body else set())
    for status in sorted(failures):
        responses[str(status)] = {"description": "It cannot be done"} | content("Error")
    said: dict[str, Any] = {"operationId": op.name, "summary": op.summary, "responses": responses}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"{(\w+)}", op.path)
    ]
    parameters += [
        {
            "name": name.rstrip("!"),
            "in": "query",
            "required": name.endswith("!"),
            "schema": _QUERY[name.rstrip("!")],
        }
        for name in op.query
    ]
    if parameters:
        said["parameters"] = parameters
    if op.body:
        schema = {"$ref": f"#/components/schemas/{op.body}"}
        said["requestBody"] = {"required": True, "content": {op.media_type: {"schema": schema}}}
    return said


# --- serving


def api_app(gateway: Gateway, token: str = "") -> Starlette:
    """The routes as an ASGI application. With ``token``, who asks must show it."""
    document = openapi()

    async def show_openapi(request: Request) -> Response:
        return JSONResponse(document)

    routes = [
        Route(op.path, _endpoint(gateway, op, token), methods=[op.method]) for op in OPERATIONS
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
    gateway: Gateway, op: _Operation, token: str
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if token and op.path not in _OPEN:
            _check_token(request, token)
        body = b""
        if op.body:
            media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != op.media_type:
                raise Refusal(415, f"content-type is {media_type[:80]!r}", hint=op.media_type)
            body = await _body(request)
        call = Call(dict(request.path_params), dict(request.query_params), body)
        status, said = await run_in_threadpool(op.handle, gateway, call)
        if status == 204:
            return Response(status_code=204)
        data = said if isinstance(said, bytes) else json.dumps(said, allow_nan=False).encode()
        return Response(data, status, media_type=_JSON)

    return answer


def _check_token(request: Request, token: str) -> None:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        shown.strip().encode(), token.encode()
    ):
        raise HTTPException(
            401, "a token is wanted: Authorization: Bearer …", {"www-authenticate": "Bearer"}
        )


async def _body(request: Request) -> bytes:
    """All of it. Raises ``Refusal`` when it is too large, or does not come."""
    large = Refusal(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > MAX_BODY_BYTES:
        raise large

    async def read() -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise large
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), _BODY_S)
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {_BODY_S:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the body broke off") from None


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
