"""The HTTP face does what its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cbor2
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from propeller_fl.deployment import Deployment, Role
from propeller_fl.gateway import openapi

from .conftest import TOKEN
from .conftest import settings as settings_of

AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
CONFORMS = (status_code_conformance, content_type_conformance, response_schema_conformance)
NOBODY_ANSWERS = (503, 504)  # whoever is asked over MQTT may say nothing in time

SCHEMA: Any = schemathesis.openapi.from_dict(openapi())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A deployment without proplets, with less patience than people have."""
    given_settings = settings_of(tmp_path_factory.mktemp("openapi"), **{"gateway.wait_s": "1"})
    with Deployment(given_settings, Role.BROKER | Role.SERVICES | Role.GATEWAY) as running:
        yield running.gateway_address


@schemathesis.serializer("application/cbor")
def as_cbor(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else cbor2.dumps(value)


def cases() -> Iterator[Any]:
    """Each operation with what it takes; and with what it does not, where it takes something."""
    for operation in OPERATIONS:
        yield pytest.param(operation, GenerationMode.POSITIVE, id=operation.label)
        if operation.body or operation.query:
            name = f"{operation.label}, wrongly"
            yield pytest.param(operation, GenerationMode.NEGATIVE, id=name)


@pytest.mark.parametrize(("operation", "mode"), list(cases()))
def test_what_is_served_is_what_is_documented(url: str, operation: Any, mode: Any) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        answer = case.call(base_url=url, headers=AUTHORIZED, timeout=60)
        checks: list[Any] = list(CONFORMS)
        if answer.status_code not in NOBODY_ANSWERS:
            checks.append(not_a_server_error)
        case.validate_response(answer, checks=checks)

    check()


def test_the_document_is_served_and_names_every_route(url: str) -> None:
    served = httpx.get(f"{url}/openapi.json").json()

    assert served == openapi()
    theirs = {
        "/health /experiments /task /update /update_cbor /rounds/{round_id}/complete /rounds/next",
        "/models /models/{version} /datasets/{proplet_id} /fl/experiments",
        "/tasks /tasks/{task_id} /tasks/{task_id}/start /tasks/{task_id}/stop",
    }
    assert set(" ".join(theirs).split()) <= set(served["paths"])
