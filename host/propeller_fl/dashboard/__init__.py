"""The page: what the services and proplets say on their topics, live in a browser.

View         pure: messages in, a JSON-able snapshot and changes out
Dashboard    the thread around it, with its MQTT session
web_face     the page and its routes as an HTTP server
"""

from __future__ import annotations

from propeller_fl.dashboard._app import web_face
from propeller_fl.dashboard._dashboard import Dashboard
from propeller_fl.dashboard._guard import DashboardGuard, Visitor
from propeller_fl.dashboard._view import View

__all__ = ["Dashboard", "DashboardGuard", "View", "Visitor", "web_face"]
