"""Propeller's HTTP face: the same rounds, models and tasks, for those who do not speak MQTT."""

from __future__ import annotations

from propeller_fl.gateway._app import api_app
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._gateway import Gateway
from propeller_fl.gateway._openapi import openapi
from propeller_fl.gateway._server import gateway_server
from propeller_fl.gateway._tasks import TaskBook, TaskState

__all__ = ["Gateway", "Refusal", "TaskBook", "TaskState", "api_app", "gateway_server", "openapi"]
