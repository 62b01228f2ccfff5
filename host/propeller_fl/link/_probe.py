"""What ``propeller-fl doctor`` can say about a broker."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

from ..errors import LinkError
from ._address import BrokerAddress
from ._incoming import Incoming
from ._link import Link
from ._loop import LinkLoop

_VERSION_TOPIC = "$SYS/broker/version"  # mosquitto's; others leave it empty or refuse it
_VERSION_S = 0.5
_SILENCE_S = 1.0  # after which nothing more is coming
_QUEUE_MESSAGES = 1_200  # stock mosquitto keeps 1,000 for a session that is away


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis."""

    level: Literal["ok", "warning", "error"]
    subject: str  # what was looked at, in a word or two
    detail: str  # what was found
    hint: str = ""  # what to try


def probe_broker(
    address: BrokerAddress, *, topic_prefix: str = "", timeout_s: float = 10.0
) -> list[Finding]:
    """Open sessions and send ourselves messages on ``{topic_prefix}fl/doctor/…``.

    Looks at the connection, a round trip, retained messages and messages that wait for a session.
    It leaves nothing behind on the broker, and stops at the first thing that does not work at all.
    """
    findings: list[Finding] = []
    with LinkLoop() as loop:
        probe = _Probe(loop, address, f"{topic_prefix}fl/doctor/{secrets.token_hex(4)}", timeout_s)
        try:
            findings.append(probe.connection())
            findings.append(probe.retained_round_trip())
            findings.append(probe.waiting_messages())
        except LinkError as error:
            findings.append(Finding("error", "broker", str(error.args[0]), error.hint))
    return findings


class _Probe:
    def __init__(
        self, loop: LinkLoop, address: BrokerAddress, topic: str, timeout_s: float
    ) -> None:
        self._loop = loop
        self._address = address
        self._topic = topic
        self._timeout_s = timeout_s

    def connection(self) -> Finding:
        with self._session("version") as link:
            versions: SimpleQueue[Incoming] = SimpleQueue()
            version = ""
            with contextlib.suppress(LinkError, Empty):  # most brokers do not say
                link.subscribe(_VERSION_TOPIC, versions.put).wait(_VERSION_S)
                version = versions.get(timeout=_VERSION_S).payload.decode(errors="replace")
        return Finding(
            "ok", "connection", f"{self._address} speaks MQTT 3.1.1" + (version and f", {version}")
        )

    def retained_round_trip(self) -> Finding:
        received: SimpleQueue[Incoming] = SimpleQueue()
        with self._session("retained") as link:
            start_s = time.monotonic()
            link.publish(self._topic, b"kept", retain=True).wait(self._timeout_s)
            link.subscribe(self._topic, received.put).wait(self._timeout_s)
            try:
                received.get(timeout=self._timeout_s).ack()
            except Empty:
                return Finding(
                    "error",
                    "retained",
                    "a retained message was accepted and did not come back",
                    "models are retained messages: allow them, and this user to read what it wrote",
                )
            finally:
                link.publish(self._topic, b"", retain=True).wait(self._timeout_s)
            took_ms = (time.monotonic() - start_s) * 1000
        return Finding("ok", "retained", f"a retained message came back in {took_ms:.0f} ms")

    def waiting_messages(self) -> Finding:
        with self._session("queue", clean=False) as away:
            away.subscribe(self._topic, Incoming.ack).wait(self._timeout_s)
        with self._session("sender") as sender:
            deliveries = [
                sender.publish(self._topic, b"%d" % number) for number in range(_QUEUE_MESSAGES)
            ]
            for delivery in deliveries:
                delivery.wait(self._timeout_s)
        kept = self._fetch()
        with self._session("queue", clean=True):
            pass  # a clean session removes the one that waited
        if kept < _QUEUE_MESSAGES:
            return Finding(
                "warning",
                "queue",
                f"of {_QUEUE_MESSAGES} messages for a session that was away, the broker "
                f"acknowledged all and kept {kept}",
                "on mosquitto, set max_queued_messages 0 (its default is 1000)",
            )
        return Finding("ok", "queue", f"{_QUEUE_MESSAGES} messages waited for a session, none lost")

    def _fetch(self) -> int:
        """How many messages waited."""
        received: SimpleQueue[Incoming] = SimpleQueue()
        payloads: set[bytes] = set()
        link = Link(self._loop, self._address, self._client_id("queue"))
        link.subscribe(self._topic, received.put)
        link.start()
        try:
            link.wait_connected(self._timeout_s)
            with contextlib.suppress(Empty):
                while len(payloads) < _QUEUE_MESSAGES:
                    incoming = received.get(timeout=_SILENCE_S)
                    payloads.add(incoming.payload)
                    incoming.ack()
        finally:
            link.close()
        return len(payloads)

    def _client_id(self, role: str) -> str:
        return f"doctor-{self._topic.rpartition('/')[2]}-{role}"

    @contextlib.contextmanager
    def _session(self, role: str, *, clean: bool = True) -> Iterator[Link]:
        link = Link(self._loop, self._address, self._client_id(role), clean_session=clean)
        link.start()
        try:
            link.wait_connected(self._timeout_s)
            yield link
        finally:
            link.close()
