"""The keeper of published models: a directory, its MQTT face and its HTTP face."""

from __future__ import annotations

from propeller_fl.model_server._initial import initial_model
from propeller_fl.model_server._server import ModelServer

__all__ = ["ModelServer", "initial_model"]
