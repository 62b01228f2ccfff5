"""The OpenAPI document, made of the table of routes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from propeller_fl import __version__
from propeller_fl.access import AccessRole
from propeller_fl.gateway._access import OPEN_PATHS
from propeller_fl.gateway._routes import JSON, OPERATIONS, Operation
from propeller_fl.gateway._schemas import QUERY, SCHEMAS, TEXT


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
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": bearer}},
        "security": [{"token": []}, {}],  # none where there are no tokens, or a route is open
    }


def _documented(op: Operation) -> dict[str, Any]:
    content: Callable[[str], dict[str, Any]] = lambda name: {  # noqa: E731
        "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    }
    responses: dict[str, Any] = {
        str(status): {"description": op.summary} | (content(name) if name else {})
        for status, name in op.answers.items()
    }
    failures = {400, 401, 403, 408, 413, 421, 429, 503, *op.errors} | ({415} if op.body else set())
    for status in sorted(failures):
        responses[str(status)] = {"description": "It cannot be done"} | content("Error")
    said: dict[str, Any] = {"operationId": op.name, "summary": op.summary, "responses": responses}
    if op.path in OPEN_PATHS:
        said["security"] = []
    else:
        roles = ", ".join(sorted(op.who | {AccessRole.GATEWAY}))
        said["description"] = f"With a token of: {roles}."
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": TEXT}
        for name in re.findall(r"{(\w+)}", op.path)
    ]
    parameters += [
        {
            "name": name.rstrip("!"),
            "in": "query",
            "required": name.endswith("!"),
            "schema": QUERY[name.rstrip("!")],
        }
        for name in op.query
    ]
    if parameters:
        said["parameters"] = parameters
    if op.body:
        schema = {"$ref": f"#/components/schemas/{op.body}"}
        said["requestBody"] = {"required": True, "content": {op.media_type: {"schema": schema}}}
    return said
