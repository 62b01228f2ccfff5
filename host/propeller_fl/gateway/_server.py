"""The gateway's HTTP server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import ConfigError
from propeller_fl.gateway._app import api_app
from propeller_fl.gateway._gateway import Gateway
from propeller_fl.gateway._tokens import TokenFile
from propeller_fl.link import is_loopback
from propeller_fl.web import Caller, HttpGuard, WebServer

_AT_ONCE: Final = 256  # requests, which mostly wait for an answer over MQTT
_PATIENCE_S: Final = 10.0  # with a client that does not send or read
_NO_GUARD: Final = HttpGuard()


def gateway_server(
    gateway: Gateway,
    config: GatewayConfig,
    guard: HttpGuard = _NO_GUARD,
    *,
    patience_s: float = _PATIENCE_S,
) -> WebServer:
    """Serves ``gateway`` at ``config.http_host`` and ``http_port``, to whom ``guard`` and
    ``config.token_file`` know. Raises ``ConfigError``, also for an address beyond this machine
    without tokens, or without TLS that ``config.allow_plain`` does not allow."""
    if config.token_file is not None:
        tokens = TokenFile(config.token_file)
        guard = replace(guard, knows=_either(tokens.caller_of, guard.knows))
    if not is_loopback(config.http_host):
        _check_public(config, guard)
    return WebServer(
        api_app(gateway, config, guard, 3 * patience_s),
        config.http_host,
        config.http_port,
        section="gateway",
        patience_s=patience_s,
        tls=guard.tls,
        threads=_AT_ONCE,
    )


def _check_public(config: GatewayConfig, guard: HttpGuard) -> None:
    where = f"the gateway would listen on {config.http_host}"
    if guard.knows is None:
        raise ConfigError(
            f"{where} without tokens",
            hint="`propeller-fl init` makes them; or name a file of yours in gateway.token_file",
        )
    if guard.tls is None and not config.allow_plain:
        raise ConfigError(
            f"{where} without TLS, and tokens would travel in clear",
            hint="`propeller-fl init` makes a certificate; behind a proxy with TLS, or on a "
            "network that you trust altogether, set gateway.allow_plain to true",
        )


def _either(
    first: Callable[[str], Caller | None], then: Callable[[str], Caller | None] | None
) -> Callable[[str], Caller | None]:
    return lambda token: first(token) or (then(token) if then else None)
