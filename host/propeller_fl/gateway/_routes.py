"""The routes, in one table: what is served, to whom, and what is read of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from propeller_fl.access import AccessRole
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._gateway import Gateway
from propeller_fl.gateway._schemas import MAX_PAGE
from propeller_fl.gateway._tasks import Task
from propeller_fl.wire import Format, decode_document, format_of

_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)

_READERS: Final = frozenset(
    (AccessRole.OPERATOR, AccessRole.PUBLISHER, AccessRole.OBSERVER, AccessRole.PROPLET)
)
_OPERATORS: Final = frozenset((AccessRole.OPERATOR,))
_PUBLISHERS: Final = frozenset((AccessRole.OPERATOR, AccessRole.PUBLISHER))
_PROPLETS: Final = frozenset((AccessRole.PROPLET,))
_WATCHERS: Final = frozenset((AccessRole.OPERATOR, AccessRole.OBSERVER))  # of tasks

JSON: Final = "application/json"
CBOR: Final = "application/cbor"


@dataclass(frozen=True, slots=True)
class Call:
    """What is read of a request."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)
    speaker: str = ""  # the only proplet it may speak for; empty: for any
    trusted: bool = True  # may see what tasks are given

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
class Operation:
    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Gateway, Call], Answer]
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "Any"})
    body: str = ""  # name of a schema
    media_type: str = JSON
    query: tuple[str, ...] = ()  # parameters; those that must be there end in !
    errors: tuple[int, ...] = ()
    who: frozenset[AccessRole] = _READERS  # besides the gateway itself, who may do everything


def _health(gateway: Gateway, call: Call) -> Answer:
    return 200, {"status": "ok", "broker": "up" if gateway.broker_up else "down"}


def _experiment(gateway: Gateway, call: Call) -> dict[str, Any]:
    wanted = call.document()
    start = gateway.rounds.start(wanted)
    said = {"experiment_id": str(wanted.get("experiment_id") or ""), "round_id": start.round_id}
    version = re.search(r"[0-9]+$", start.model_uri)
    return said | {"status": "configured", "model_version": int(version[0]) if version else 0}


def _update(gateway: Gateway, call: Call, wanted: Format) -> Answer:
    if not call.body or format_of(call.body) is not wanted:
        raise Refusal(400, f"the body is no {wanted.upper()} map")
    gateway.rounds.update(call.body, call.speaker)
    return 200, {"status": "accepted"}


def _post_model(gateway: Gateway, call: Call) -> Answer:
    document = call.document()
    version, model = document.get("version"), document.get("model")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 10**18:
        raise Refusal(400, "version is no whole number from 0", where="version")
    if not isinstance(model, dict):
        raise Refusal(400, "model is no object", where="model", hint="names and arrays")
    gateway.models.put(version, model)
    return 201, {"version": version, "status": "stored"}


def _get_model(gateway: Gateway, call: Call) -> Answer:
    text = call.path["version"]
    if not _VERSION.fullmatch(text):
        raise Refusal(404, "a version is a whole number", where="version")
    return 200, gateway.models.get(int(text))


def _round(gateway: Gateway, call: Call) -> Answer:
    said = gateway.rounds.status(call.path["round_id"])
    return 200, said | {
        "status": said
    }  # flat from the demo's coordinator, and as the manager has it


def _task(gateway: Gateway, call: Call) -> Answer:
    round_id = call.query.get("round_id", "")
    if not round_id:
        raise Refusal(400, "round_id is missing", where="round_id")
    proplet_id = call.query.get("proplet_id", "") or call.speaker
    _check_own(call, proplet_id)
    return 200, {"task": gateway.rounds.task_of(round_id, proplet_id)}


def _tasks(gateway: Gateway, call: Call) -> Answer:
    offset, limit = call.number("offset", 0, 10**9), call.number("limit", MAX_PAGE, MAX_PAGE)
    total, tasks = gateway.fleet.tasks(offset, limit)
    shown = [_shown(call, task) for task in tasks]
    return 200, {"offset": offset, "limit": limit, "total": total, "tasks": shown}


def _shown(call: Call, task: Task) -> dict[str, Any]:
    return task.document() if call.trusted else task.outline()


def _dataset(gateway: Gateway, call: Call, *, rows: bool) -> Answer:
    proplet_id = call.path["proplet_id"]
    _check_own(call, proplet_id)
    return 200, gateway.models.dataset(proplet_id, rows=rows)


def _check_own(call: Call, proplet_id: str) -> None:
    if call.speaker and proplet_id != call.speaker:
        raise Refusal(403, f"this token is of {call.speaker}", where="proplet_id")


def _proplets(gateway: Gateway, call: Call) -> Answer:
    offset, limit = call.number("offset", 0, 10**9), call.number("limit", MAX_PAGE, MAX_PAGE)
    found = gateway.fleet.proplets()
    page = {"offset": offset, "limit": limit, "total": len(found)}
    return 200, page | {"proplets": found[offset : offset + limit]}


def _delete(gateway: Gateway, call: Call) -> Answer:
    gateway.fleet.delete(call.path["task_id"])
    return 204, None


def _started(gateway: Gateway, call: Call) -> Answer:
    gateway.fleet.start(call.path["task_id"])
    return 200, {"started": True}


def _stopped(gateway: Gateway, call: Call) -> Answer:
    gateway.fleet.stop(call.path["task_id"])
    return 200, {"stopped": True}


def _table() -> tuple[Operation, ...]:
    op = Operation
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
        "who": _PROPLETS,
    }
    cbor_update = json_update | {"media_type": CBOR}
    experiment: dict[str, Any] = {
        "body": "Experiment",
        "errors": (409, 504),
        "who": _OPERATORS,
    }
    task: dict[str, Any] = {"errors": (404,), "who": _WATCHERS}
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
            lambda g, c: (200, g.rounds.last()),
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
            who=_PUBLISHERS,
        ),
        op(
            *("GET", "/models", "models", "Which versions there are"),
            lambda g, c: (200, {"versions": g.models.versions()}),
            answers={200: "Versions"},
        ),
        op(
            *("GET", "/models/{version}", "model", "A model", _get_model),
            errors=(404,),
        ),
        op(
            *("GET", "/datasets/{proplet_id}", "dataset", "A proplet's data"),
            lambda g, c: _dataset(g, c, rows=True),
            answers={200: "Dataset"},
            errors=(404,),
            who=_PROPLETS,
        ),
        op(
            *("GET", "/arrays/datasets/{proplet_id}", "arrays", "The same, for our modules"),
            lambda g, c: _dataset(g, c, rows=False),
            answers={200: "Arrays"},
            errors=(404,),
            who=_PROPLETS,
        ),
        op("GET", "/proplets", "proplets", "Who is there", _proplets, {200: "Proplets"}, **page),
        op(
            *("GET", "/proplets/{proplet_id}", "proplet", "One of them"),
            lambda g, c: (200, g.fleet.proplet(c.path["proplet_id"])),
            errors=(404,),
        ),
        op(
            *("POST", "/tasks", "create_task", "Take a task down"),
            lambda g, c: (201, g.fleet.create(c.document()).document()),
            answers={201: "Task"},
            body="NewTask",
            who=_OPERATORS,
        ),
        op(
            *("GET", "/tasks", "tasks", "The tasks", _tasks, {200: "Tasks"}),
            who=_WATCHERS,
            **page,
        ),
        op(
            *("GET", "/tasks/{task_id}", "task", "One of them"),
            lambda g, c: (200, _shown(c, g.fleet.task(c.path["task_id"]))),
            answers={200: "Task"},
            **task,
        ),
        op(
            *("GET", "/tasks/{task_id}/results", "results", "What came of it"),
            lambda g, c: (200, {"results": g.fleet.task(c.path["task_id"]).results}),
            answers={200: "Results"},
            **task,
        ),
        op(
            *("DELETE", "/tasks/{task_id}", "delete_task", "Forget it", _delete),
            answers={204: ""},
            errors=(404, 409),
            who=_OPERATORS,
        ),
        op(
            *("POST", "/tasks/{task_id}/start", "start_task", "Give it to a proplet", _started),
            answers={200: "Started"},
            errors=(404, 409),
            who=_OPERATORS,
        ),
        op(
            *("POST", "/tasks/{task_id}/stop", "stop_task", "Have it stopped", _stopped),
            answers={200: "Stopped"},
            errors=(404, 409),
            who=_OPERATORS,
        ),
    )


OPERATIONS: Final = _table()
