"""A plain MQTT peer for tests: it plays whatever side is not under test."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import paho.mqtt.client as paho

from propeller_fl.link import Backoff, BrokerAddress, Incoming, Link, LinkLoop

from .wait import wait_until

T = TypeVar("T")

_QUICK = Backoff(first_s=0.1, cap_s=1.0)
_ASK_AGAIN_S = 3.0


class Peer:
    """Keeps all it hears, in order; publishes and waits for the broker's answer."""

    def __init__(self, loop: LinkLoop, address: BrokerAddress) -> None:
        self._lock = threading.Lock()
        self._heard: list[tuple[str, bytes]] = []
        self._filters: list[str] = []
        self._link = Link(
            loop, address, f"peer-{uuid.uuid4().hex[:8]}", clean_session=True, backoff=_QUICK
        )
        self._link.start()
        self._link.wait_connected(30)

    def subscribe(self, *topics: str) -> None:
        for topic in topics:
            self._filters.append(topic)
            self._link.subscribe(topic, self._hear).wait(30)

    def publish(self, topic: str, payload: bytes | dict[str, Any], *, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._link.publish(topic, data, retain=retain).wait(30)

    def send(self, topic: str, payload: bytes | dict[str, Any]) -> None:
        """The same, without waiting: the broker may take its time."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._link.publish(topic, data)

    def heard(self, topic: str) -> list[bytes]:
        with self._lock:
            return [payload for at, payload in self._heard if at == topic]

    def wait_for(
        self,
        topic: str,
        that: Callable[[Any], bool] = lambda message: True,
        *,
        timeout_s: float = 15,
    ) -> Any:
        """The first JSON message on ``topic`` for which ``that`` holds."""
        return self._wait_for(
            topic, lambda payload: that(json.loads(payload)), json.loads, timeout_s
        )

    def wait_for_bytes(self, topic: str, *, timeout_s: float = 15) -> bytes:
        """The first message on ``topic`` that is not empty, as it is."""
        return self._wait_for(topic, bool, bytes, timeout_s)

    def _wait_for(
        self,
        topic: str,
        that: Callable[[bytes], bool],
        read: Callable[[bytes], T],
        timeout_s: float,
    ) -> T:
        """What is retained at the moment of a SUBSCRIBE may come neither as retained nor as new on
        the embedded broker (docs/reliability.md), so a peer that hears nothing asks again."""
        ask_at = time.monotonic() + _ASK_AGAIN_S

        def find() -> list[bytes]:
            nonlocal ask_at
            heard = self.heard(topic)
            if not heard and time.monotonic() > ask_at:
                self._ask_again(topic)
                ask_at = time.monotonic() + _ASK_AGAIN_S
            return [payload for payload in heard if that(payload)][:1]

        return read(wait_until(find, timeout_s, f"a message on {topic}")[0])

    def _ask_again(self, topic: str) -> None:
        for topic_filter in self._filters:
            if paho.topic_matches_sub(topic_filter, topic):
                self._link.subscribe(topic_filter, self._hear)

    def close(self) -> None:
        self._link.close(2)

    def _hear(self, incoming: Incoming) -> None:
        with self._lock:
            self._heard.append((incoming.topic, incoming.payload))
        incoming.ack()


@contextlib.contextmanager
def peer_at(address: BrokerAddress) -> Iterator[Peer]:
    with LinkLoop(name="peer") as loop:
        peer = Peer(loop, address)
        try:
            yield peer
        finally:
            peer.close()
