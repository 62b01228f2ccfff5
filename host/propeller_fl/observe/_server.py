"""The HTTP server of metrics and health."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp

from propeller_fl.config import MetricsConfig
from propeller_fl.web import Gate, HttpGuard, WebServer

_PATIENCE_S: Final = 10.0
_REQUESTS_PER_S: Final = 20.0  # of one address or identity; a scrape comes every few seconds


def metrics_server(app: ASGIApp, config: MetricsConfig, guard: HttpGuard) -> WebServer:
    """Serves ``app`` where ``config`` says, to whom ``guard`` says.

    Raises :class:`ConfigError` where nobody can listen there, and for an address beyond this
    machine without TLS and tokens that ``metrics.allow_plain`` does not allow.
    """
    what = "metrics would be served"
    guard.check_plain(config.http_host, "metrics", what, allow_plain=config.allow_plain)
    return WebServer(
        Gate(app, guard.knows, _REQUESTS_PER_S, open_paths=("/healthz", "/readyz")),
        config.http_host,
        config.http_port,
        section="metrics",
        patience_s=_PATIENCE_S,
        tls=guard.tls,
    )
