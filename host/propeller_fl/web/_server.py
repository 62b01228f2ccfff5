"""uvicorn on a thread of its own, with our way of accepting."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from typing import Any, Final

import uvicorn
from anyio import to_thread

from propeller_fl.errors import ConfigError
from propeller_fl.web._visitors import accept_visitors

_log = logging.getLogger(__name__)

_GOODBYE_S: Final = 2
_MAX_HEAD_BYTES: Final = 16 * 1024


class WebServer:
    """Serves ``app`` on ``host`` and ``port`` (0: a free one).

    ``section``     of the settings that ``http_port`` is in, for an error and the thread's name
    ``patience_s``  a client that lets it wait for longer is hung up on
    ``threads``     in which what blocks is run at once; None: as many as anyio has

    Raises :class:`ConfigError` where nobody can listen there.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        section: str,
        patience_s: float,
        tls: ssl.SSLContext | None = None,
        threads: int | None = None,
    ) -> None:
        self._patience_s = patience_s
        self._tls = tls
        self._threads = threads
        self._socket = _listen(section, host, port)
        config = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GOODBYE_S,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._failure: Exception | None = None
        name = f"{section.replace('_', '-')}-http"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has; nobody is served any more."""
        return self._failure

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Answer what is under way, and end."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._socket.close()
        if self._thread.is_alive():
            _log.warning("the HTTP server did not end within %g s", timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as err:
            _log.critical("the HTTP server has stopped", exc_info=True)
            self._failure = err

    async def _serve(self) -> None:
        if self._threads is not None:
            to_thread.current_default_thread_limiter().total_tokens = self._threads
        await to_thread.run_sync(bool)  # loads what cannot be loaded when no descriptor is left
        self._server.config.load()
        accepting = asyncio.create_task(
            accept_visitors(self._socket, self._server, self._patience_s, self._tls)
        )
        try:
            await self._server.serve(sockets=[])
        finally:
            accepting.cancel()


def _listen(section: str, host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)  # from here on a client waits, and is not turned away
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as err:
        raise ConfigError(
            f"{section}: cannot listen on {host}:{port}: {err.strerror}",
            hint=f"set {section}.http_port to another port, or 0 for a free one",
        ) from err
    return listener
