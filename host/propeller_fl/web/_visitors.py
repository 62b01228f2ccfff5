"""Who connects to the HTTP face: accepted with patience, waited for without.

asyncio's own accept loop spins, and logs without end, when no file descriptor is left (until Python
3.13); and uvicorn waits for ever for a request that does not come, or for a client that does not
read its answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from propeller_fl.log import Trouble

_log = logging.getLogger(__name__)

_MAX_VISITORS: Final = 256  # at once; the next ones wait to be accepted
_PAUSE_S: Final = 1.0  # before the next try to accept, when there are no descriptors
_FULL_HOUSE_PAUSE_S: Final = 0.1
_GOODBYE_S: Final = 2.0
_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 42\r\n\r\n{"error":"the request did not come whole"}'
)


async def accept_visitors(
    listener: socket.socket,
    server: uvicorn.Server,
    patience_s: float,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Hand to ``server``, which has no sockets of its own, whoever connects; until cancelled.

    ``listener`` does not block. A client has ``patience_s`` for its request, from connecting or
    from the first byte of a later one, and as long to take each piece of the answer; with ``tls``
    also for the handshake.
    """
    loop = asyncio.get_running_loop()
    trouble = Trouble()
    visitor = partial(Visitor, server.config, server.server_state, {}, patience_s=patience_s)
    coming: set[asyncio.Task[None]] = set()  # so that nobody waits for another's handshake
    while True:
        if len(server.server_state.connections) + len(coming) >= _MAX_VISITORS:
            await asyncio.sleep(_FULL_HOUSE_PAUSE_S)
            continue
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError as err:
            if trouble.is_news(str(err)):
                _log.error(
                    "HTTP clients wait: %s (raise the limit on open files: ulimit -n)", err.strerror
                )
            await asyncio.sleep(_PAUSE_S)
            continue
        if trouble.is_over():
            _log.info("HTTP clients are served again")
        task = asyncio.create_task(_welcome(visitor, connection, patience_s, tls))
        coming.add(task)
        task.add_done_callback(coming.discard)


async def _welcome(
    visitor: Callable[[], Visitor],
    connection: socket.socket,
    patience_s: float,
    tls: ssl.SSLContext | None,
) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            visitor,
            connection,
            ssl=tls,
            ssl_handshake_timeout=patience_s if tls else None,
            ssl_shutdown_timeout=_GOODBYE_S if tls else None,
        )
    except OSError as err:  # it has gone already, or speaks no TLS that we do
        _log.debug("HTTP client lost: %s", err)
        connection.close()


class Visitor(H11Protocol):
    """A connection that ends when its client lets us wait."""

    def __init__(self, *arguments: Any, patience_s: float) -> None:
        super().__init__(*arguments)
        self._patience_s = patience_s
        self._request_due: asyncio.TimerHandle | None = None
        self._reading_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)  # first: of TLS, something may wait to be sent already
        # Pause as soon as anything is not taken. With 0, asyncio's TLS would never go on.
        transport.set_write_buffer_limits(high=1 if transport.get_extra_info("ssl_object") else 0)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._request_due)
        _cancel(self._reading_due)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._request_due)  # now it is for us to answer
            self._request_due = None
        else:
            self._expect_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        _cancel(self._reading_due)
        self._reading_due = self._in_time("does not read")

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._reading_due)

    def _expect_request(self) -> None:
        if self._request_due is None:
            self._request_due = self.loop.call_later(self._patience_s, self._give_up)

    def _in_time(self, why: str) -> asyncio.TimerHandle:
        return self.loop.call_later(self._patience_s, self._leave, why)

    def _give_up(self) -> None:
        """Say so to who has begun a request, if that does not mean to wait again."""
        begun = bool(self.conn.trailing_data[0])
        if begun and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            if not self.transport.get_write_buffer_size():
                _log.debug("HTTP client %s is too slow: hung up", self.client)
                self.transport.close()
                return
        self._leave("asks nothing")

    def _leave(self, why: str) -> None:
        _log.debug("HTTP client %s %s: hung up", self.client, why)
        # so that the system forgets what it has not taken
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
