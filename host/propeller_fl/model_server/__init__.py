"""The keeper of published models: a directory, its MQTT face and its HTTP face."""

from __future__ import annotations

from propeller_fl.model_server._gate import Gate, HttpGuard
from propeller_fl.model_server._initial import initial_model
from propeller_fl.model_server._server import ModelServer
from propeller_fl.web import RateLimit

__all__ = ["Gate", "HttpGuard", "ModelServer", "RateLimit", "initial_model"]
