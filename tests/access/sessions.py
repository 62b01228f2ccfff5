"""MQTT sessions that try what they may not do, with nothing of ours in between."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from propeller_fl.link import BrokerAddress, TlsOptions
from tests.support.wait import wait_until

PATIENCE_S = 60


class Session:
    """One user, connected. ``heard`` is all that came, as (topic, payload)."""

    def __init__(self, address: BrokerAddress, client_id: str) -> None:
        self._lock = threading.Lock()
        self._heard: list[tuple[str, str]] = []
        self._answered: dict[int, list[int]] = {}
        self._published: set[int] = set()
        self._up = threading.Event()
        self.down = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, reconnect_on_failure=False
        )
        self._client.max_inflight_messages_set(0)
        assert address.tls is not None
        self._client.tls_set_context(_context(address.tls))
        self._client.username_pw_set(address.username, address.password)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self.down.set()
        self._client.on_message = self._on_message
        self._client.on_publish = lambda _c, _u, mid, *_: self._published.add(mid)
        self._client.on_subscribe = self._on_subscribe
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert self._up.wait(PATIENCE_S), f"{client_id} is not connected"

    @property
    def heard(self) -> list[tuple[str, str]]:
        with self._lock:
            return list(self._heard)

    def publish(self, messages: Iterable[tuple[str, str]]) -> None:
        """At QoS 1; returns when the broker has acknowledged all, also those that it drops, or has
        hung up."""
        ids = {self._client.publish(topic, text.encode(), qos=1).mid for topic, text in messages}
        wait_until(
            lambda: ids <= self._published or self.down.is_set(), PATIENCE_S, "acknowledgements"
        )

    def subscribe(self, filters: Iterable[str], qos: int) -> list[bool]:
        """Each by a SUBSCRIBE of its own, so that one that is refused spoils no other. Whether the
        broker agreed."""
        ids: list[int] = []
        for topic_filter in filters:
            _, mid = self._client.subscribe(topic_filter, qos)
            assert mid is not None
            ids.append(mid)
        wait_until(lambda: all(mid in self._answered for mid in ids), PATIENCE_S, "SUBACKs")
        return [all(code < 128 for code in self._answered[mid]) for mid in ids]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if not reason.is_failure:
            self._up.set()

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._heard.append((message.topic, message.payload.decode()))

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, codes: Any, _p: Any) -> None:
        self._answered[mid] = [code.value for code in codes]


def say_once(address: BrokerAddress, topic: str, text: str) -> None:
    """A session for one message at QoS 1, which ends when the broker has acknowledged it."""
    publish = _field(topic.encode()) + b"\0\1" + text.encode()
    with _connected(address) as sock:
        sock.sendall(_connect(address) + _packet(0x32, publish))
        assert _read(sock, 8) == b"\x20\2\0\0\x40\2\0\1"  # CONNACK, PUBACK
        with contextlib.suppress(OSError):  # mosquitto hangs up on who writes what it may not
            sock.sendall(b"\xe0\0")
            while sock.recv(64):
                pass


def vanish(address: BrokerAddress, topic: str, text: str) -> None:
    """A session that ends without a goodbye, so that the broker publishes its will."""
    with _connected(address) as sock:
        sock.sendall(_connect(address, _field(topic.encode()) + _field(text.encode())))
        assert _read(sock, 4) == b"\x20\2\0\0"
        # TLS has its goodbye: a connection that just ends can cost mosquitto 2.0 another one
        with contextlib.suppress(OSError):
            sock.unwrap()


@functools.cache
def _context(tls: TlsOptions) -> ssl.SSLContext:
    return tls.context()


@contextlib.contextmanager
def _connected(address: BrokerAddress) -> Iterator[ssl.SSLSocket]:
    assert address.tls is not None
    with (
        socket.create_connection((address.host, address.port), PATIENCE_S) as plain,
        _context(address.tls).wrap_socket(plain, server_hostname=address.host) as sock,
    ):
        yield sock


def _connect(address: BrokerAddress, will: bytes = b"") -> bytes:
    flags = b"\xce" if will else b"\xc2"
    login = _field((address.username or "").encode()) + _field((address.password or "").encode())
    return _packet(0x10, b"\0\4MQTT\4" + flags + b"\0\x3c" + _field(b"once") + will + login)


def _read(sock: ssl.SSLSocket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = sock.recv(64)
        assert data, f"the broker hung up after {found!r}"
        found += data
    return found


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    size = len(body)
    assert size < 128 * 128
    head = bytes([size]) if size < 128 else bytes([size % 128 | 128, size // 128])
    return bytes([kind]) + head + body


@contextlib.contextmanager
def session(address: BrokerAddress, client_id: str) -> Iterator[Session]:
    opened = Session(address, client_id)
    try:
        yield opened
    finally:
        opened.close()
