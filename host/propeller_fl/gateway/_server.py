"""The gateway's HTTP server."""

from __future__ import annotations

from typing import Final

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import ConfigError
from propeller_fl.gateway._api import api_app
from propeller_fl.gateway._gateway import Gateway
from propeller_fl.web import WebServer

_AT_ONCE: Final = 256  # requests, which mostly wait for an answer over MQTT
_PATIENCE_S: Final = 10.0  # with a client that does not send or read


def gateway_server(gateway: Gateway, config: GatewayConfig) -> WebServer:
    """Serves ``gateway`` at ``config.http_host`` and ``http_port``. Raises ``ConfigError``."""
    return WebServer(
        api_app(gateway, _token(config)),
        config.http_host,
        config.http_port,
        section="gateway",
        patience_s=_PATIENCE_S,
        threads=_AT_ONCE,
    )


def _token(config: GatewayConfig) -> str:
    if config.token_file is None:
        return ""
    try:
        token = config.token_file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"gateway.token_file {config.token_file}: {error.strerror}") from error
    if len(token) < 16:
        raise ConfigError(
            f"gateway.token_file {config.token_file} holds less than 16 characters",
            hint="openssl rand -hex 32 makes a token",
        )
    return token
