"""What requests and answers look like, as JSON Schema."""

from __future__ import annotations

from typing import Any, Final

MAX_PAGE: Final = 100  # of a list that is asked for in pieces


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


TEXT: Final = {"type": "string"}
_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"}
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_FLAG: Final = {"type": "boolean"}
_TEXTS: Final = {"type": "array", "items": TEXT}
_FLAT: Final = {
    "type": "object",
    "additionalProperties": {"anyOf": [TEXT, _FLAG, {"type": "number"}]},
}
_ANY_OBJECT: Final = {"type": "object"}
SCHEMAS: Final[dict[str, Any]] = {
    "Any": _ANY_OBJECT,
    "Error": _object("error", error=TEXT, where=TEXT, **{"try": TEXT}),
    "Health": _object("status broker", status=TEXT, broker=TEXT),
    "Experiment": _object(
        "round_id participants",
        experiment_id=TEXT,
        round_id=_ID,
        model_ref=TEXT,
        participants={"type": "array", "items": _ID, "minItems": 1},
        hyperparams=_FLAT,
        k_of_n={"type": "integer", "minimum": 0},
        timeout_s={"type": "number", "minimum": 0, "maximum": 86_400},
        task_wasm_image=TEXT,
    ),
    "Configured": _object(
        "experiment_id round_id status",
        experiment_id=TEXT,
        round_id=_ID,
        status=TEXT,
        model_version=_NUMBER,
    ),
    "RoundTask": _object(
        "task",
        task=_object(
            "round_id model_ref",
            round_id=_ID,
            model_ref=TEXT,
            config=_ANY_OBJECT,
            hyperparams=_FLAT,
        ),
    ),
    "Update": _object(
        "round_id proplet_id base_model_uri num_samples update",
        round_id=_ID,
        proplet_id=_ID,
        base_model_uri=TEXT,
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
    "Stored": _object("version status", version=_NUMBER, status=TEXT),
    "Versions": _object("versions", versions={"type": "array", "items": _NUMBER}),
    "Arrays": _object("x y", x={"type": "array"}, y={"type": "array"}),
    "Dataset": _object(
        "proplet_id data size", proplet_id=_ID, data={"type": "array"}, size=_NUMBER
    ),
    "Proplets": _object("total proplets", total=_NUMBER, proplets={"type": "array"}),
    "NewTask": _object(
        "name",
        name={"type": "string", "minLength": 1, "maxLength": 256},
        image_url=TEXT,
        file={"type": "string", "format": "byte"},
        cli_args=_TEXTS,
        inputs={"type": "array", "items": {"anyOf": [TEXT, {"type": "number"}]}},
        env={"type": "object", "additionalProperties": TEXT},
        daemon=_FLAG,
        broadcast=_FLAG,
        proplet_id=_ID,
        mode=TEXT,
    ),
    "Task": _object("id name state", id=TEXT, name=TEXT, state=_NUMBER, proplet_id=_ID),
    "Tasks": _object("total tasks", total=_NUMBER, tasks={"type": "array"}),
    "Results": _object("results", results={"type": ["string", "null"]}),
    "Started": _object("started", started=_FLAG),
    "Stopped": _object("stopped", stopped=_FLAG),
}
QUERY: Final = {
    "round_id": _ID,
    "proplet_id": _ID,
    "offset": {"type": "integer", "minimum": 0, "maximum": 10**9},
    "limit": {"type": "integer", "minimum": 0, "maximum": MAX_PAGE},
}
