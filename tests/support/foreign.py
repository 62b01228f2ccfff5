"""An MQTT client that does not keep to anybody's rules: bytes as a test wants them."""

from __future__ import annotations

import contextlib
import itertools
import socket
from types import TracebackType
from typing import Self

from propeller_fl.link import BrokerAddress

_numbers = itertools.count()


class ForeignClient:
    """One session, unless the broker hangs up: then the next publish opens another."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._sock: socket.socket | None = None

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """With QoS 1. Whether the broker acknowledged it; if not, it has hung up."""
        sock = self._session()
        body = len(topic).to_bytes(2, "big") + topic + b"\0\7" + payload
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"\x32" + _length(len(body)) + body)
            if sock.recv(4) == b"\x40\x02\0\7":
                return True
        sock.close()
        self._sock = None
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sock is not None:
            self._sock.close()

    def _session(self) -> socket.socket:
        if self._sock is None:
            client_id = b"foreign-%d" % next(_numbers)
            body = b"\0\4MQTT\4\2\0\0" + len(client_id).to_bytes(2, "big") + client_id
            self._sock = socket.create_connection((self._address.host, self._address.port), 30)
            self._sock.sendall(b"\x10" + _length(len(body)) + body)
            assert self._sock.recv(4) == b"\x20\x02\0\0", "the broker takes no session"
        return self._sock


def _length(size: int) -> bytes:
    """MQTT's form of a packet's remaining length."""
    encoded = b""
    while True:
        size, low = divmod(size, 128)
        encoded += bytes([low | (0x80 if size else 0)])
        if not size:
            return encoded
