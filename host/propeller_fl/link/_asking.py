"""What a broker says when it is asked: over MQTT by anybody, over HTTP by its keeper."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any

from ._address import BrokerAddress

_ANSWER_S = 5.0
_HANDSHAKE_S = 2.0
READY_ID = "propeller-fl-ready"
"""The client id of sessions that are opened to see whether one can be."""


def ask(port: int, path: str) -> dict[str, Any]:
    """The nats-server of this machine with this HTTP port; empty when it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path)
        found = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}


def listens(address: BrokerAddress) -> bool:
    """Whether a connection is taken there."""
    try:
        socket.create_connection((address.host, address.port), _HANDSHAKE_S).close()
    except OSError:
        return False
    return True


def opens_session(
    address: BrokerAddress, client_id: str = READY_ID, timeout_s: float = _HANDSHAKE_S
) -> bool:
    """Whether an MQTT session can be opened there now, with this login. Tries once."""
    body = b"\x00\x04MQTT\x04" + (b"\x02" if address.username is None else b"\xc2") + b"\x00\x0a"
    for text in (client_id, address.username, address.password):
        if text is not None:
            body += len(text.encode()).to_bytes(2, "big") + text.encode()
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(
                socket.create_connection((address.host, address.port), timeout_s)
            )
            if address.tls is not None:
                context = address.tls.context()
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=address.host))
            sock.sendall(b"\x10" + _length(len(body)) + body)
            accepted = sock.recv(4) == b"\x20\x02\x00\x00"
            sock.sendall(b"\xe0\x00")
        except OSError:
            return False
    return accepted


def _length(size_bytes: int) -> bytes:
    """As MQTT has it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while True:
        size_bytes, low = divmod(size_bytes, 128)
        encoded.append(low | (128 if size_bytes else 0))
        if not size_bytes:
            return bytes(encoded)
