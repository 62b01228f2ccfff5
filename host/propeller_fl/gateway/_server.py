"""The HTTP face on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Final

import uvicorn
from anyio import to_thread

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import ConfigError
from propeller_fl.gateway._api import api_app
from propeller_fl.gateway._gateway import Gateway

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 256  # requests; who comes then is told so
_GOODBYE_S: Final = 2
_MAX_HEAD_BYTES: Final = 16 * 1024


class GatewayServer:
    """Serves ``gateway`` at ``config.http_host`` and ``http_port``. Raises ``ConfigError``."""

    def __init__(self, gateway: Gateway, config: GatewayConfig) -> None:
        self._socket = _listen(config.http_host, config.http_port)
        uvicorn_config = uvicorn.Config(
            api_app(gateway, _token(config)),
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=_AT_ONCE,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=_GOODBYE_S,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )
        self._server = uvicorn.Server(uvicorn_config)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="gateway-http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has."""
        return self._failure

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            _log.critical("the HTTP server has stopped", exc_info=True)
            self._failure = error

    async def _serve(self) -> None:
        to_thread.current_default_thread_limiter().total_tokens = _AT_ONCE  # they mostly wait
        await self._server.serve(sockets=[self._socket])


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


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"gateway: cannot listen on {host}:{port}: {error.strerror}",
            hint="set gateway.http_port to another port, or 0 for a free one",
        ) from error
    return listener
