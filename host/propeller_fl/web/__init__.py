"""An HTTP server on a thread of its own, patient with its visitors."""

from __future__ import annotations

from propeller_fl.web._rate import RateLimit
from propeller_fl.web._server import WebServer

__all__ = ["RateLimit", "WebServer"]
