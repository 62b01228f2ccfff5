"""An HTTP server on a thread of its own, patient with its visitors, and a gate before what it
serves."""

from __future__ import annotations

from propeller_fl.web._gate import Gate, HttpGuard, RateLimit
from propeller_fl.web._server import WebServer

__all__ = ["Gate", "HttpGuard", "RateLimit", "WebServer"]
