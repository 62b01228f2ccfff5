"""An HTTP server on a thread of its own, patient with its visitors, and the gate before it."""

from __future__ import annotations

from propeller_fl.web._body import Bodies
from propeller_fl.web._gate import CALLER, Caller, Gate, HttpGuard
from propeller_fl.web._rate import RateLimit
from propeller_fl.web._server import WebServer

__all__ = ["CALLER", "Bodies", "Caller", "Gate", "HttpGuard", "RateLimit", "WebServer"]
