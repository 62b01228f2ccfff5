"""What nats-server is told over its own protocol, as its configuration cannot say it.

One thing is how long a queue may get. MQTT messages that wait for their sessions fill one stream
without a bound of its own. At the server's bound nothing can be stored any more, sessions included,
so that nobody could come and fetch what waits. With its own bound a full stream refuses the
publisher, who tries again.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any

from ..errors import BrokerError

_STREAM = "$MQTT_msgs"
_TRY_S = 2.0
_PAUSE_S = 0.05


Login = tuple[str | None, str | None]
"""User and password, where the server wants some."""


class Refusal(ValueError):
    """JetStream's answer is an error, of this ``code`` of its own."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code = int(error.get("err_code", 0))


def bound_queue(port: int, max_bytes: int, deadline_s: float, login: Login) -> None:
    """Bound the messages that wait, over the server's own protocol at ``port``.

    Tries again until ``deadline_s`` of the monotonic clock: a server that has just taken up a store
    may leave a request without an answer. Raises :class:`BrokerError`.
    """
    while True:
        left_s = deadline_s - time.monotonic()
        try:
            _bound(port, max_bytes, max(_PAUSE_S, min(_TRY_S, left_s)), login)
            return
        except (OSError, ValueError, KeyError) as error:
            if left_s <= _PAUSE_S:
                raise BrokerError(
                    f"the embedded broker's queue cannot be bounded: {error}",
                    hint="is the machine very busy? broker.log in its directory may say more",
                ) from error
        time.sleep(_PAUSE_S)


@contextlib.contextmanager
def connected(port: int, login: Login, timeout_s: float = _TRY_S) -> Iterator[socket.socket]:
    """A connection for :func:`request`; OSError where there is none, or no answer in time."""
    user, password = login
    options: dict[str, Any] = {"verbose": False}
    if user is not None:
        options |= {"user": user, "pass": password}
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        sock.sendall(f"CONNECT {json.dumps(options)}\r\n".encode())
        yield sock


def request(sock: socket.socket, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    """One request and its JSON answer, by hand, as it is not worth a client library.

    OSError without an answer, :class:`Refusal` or ValueError where that is no yes.
    """
    payload = json.dumps(body).encode()
    inbox = f"_INBOX.{secrets.token_hex(8)}"  # all nodes of a cluster hear what goes to one subject
    sock.sendall(
        f"SUB {inbox} 1\r\nUNSUB 1 1\r\n".encode()  # one answer, then no more
        + f"PUB {subject} {inbox} {len(payload)}\r\n".encode()
        + payload
        + b"\r\n"
    )
    with sock.makefile("rb") as lines:
        for line in lines:
            if line.startswith(b"-ERR"):
                raise ValueError(line.decode(errors="replace").strip())
            if line.startswith(b"MSG "):
                answer: dict[str, Any] = json.loads(lines.read(int(line.split()[-1])))
                if "error" in answer:
                    raise Refusal(answer["error"])
                return answer
    raise ConnectionError("it hung up")


def _bound(port: int, max_bytes: int, timeout_s: float, login: Login) -> None:
    with connected(port, login, timeout_s) as sock:
        config = request(sock, f"$JS.API.STREAM.INFO.{_STREAM}", {})["config"]
        if (config.get("max_bytes"), config.get("discard")) == (max_bytes, "new"):
            return  # an earlier try got so far
        config |= {"max_bytes": max_bytes, "discard": "new"}
        request(sock, f"$JS.API.STREAM.UPDATE.{_STREAM}", config)
