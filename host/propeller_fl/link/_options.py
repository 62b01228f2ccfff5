"""The small values a link is made with."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..errors import ConfigError
from ._topics import check_topic

_MAX_WILL_BYTES = 65_535  # a two-byte length field in CONNECT
_MAX_PACKET_BYTES = 256 * 1024 * 1024 - 128 * 1024  # MQTT's bound, less topic and header


@dataclass(frozen=True, slots=True)
class Will:
    """The message the broker publishes (QoS 1) for us when we are gone without a goodbye."""

    topic: str
    payload: bytes
    retain: bool = False

    def __post_init__(self) -> None:
        check_topic(self.topic)
        if len(self.payload) > _MAX_WILL_BYTES:
            raise ConfigError(
                f"a will of {len(self.payload)} bytes is longer than {_MAX_WILL_BYTES} bytes"
            )


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full-jitter exponential backoff: a random wait in [0, min(cap_s, first_s * 2**failures)].

    Failures count again from none once a session has lasted 5 s.
    """

    first_s: float = 0.5
    cap_s: float = 30.0

    def wait_s(self, failures: int) -> float:
        """How long to wait after so many failures before this one."""
        return random.uniform(0.0, min(self.cap_s, self.first_s * 2.0 ** min(failures, 63)))


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bounds of one link's outgoing side. Nothing beyond them is dropped: ``publish`` raises."""

    max_payload_bytes: int = 8 * 1024 * 1024  # what the embedded broker takes too
    max_queued: int = 10_000  # messages the broker has not acknowledged
    max_queued_bytes: int = 64 * 1024 * 1024  # … and their payloads
    max_inflight: int = 256  # of them, sent and waiting for PUBACK

    def __post_init__(self) -> None:
        if not 0 < self.max_payload_bytes <= _MAX_PACKET_BYTES:
            raise ConfigError(
                f"max_payload_bytes is {self.max_payload_bytes}, must be 1 to {_MAX_PACKET_BYTES}"
            )
        if min(self.max_queued, self.max_queued_bytes, self.max_inflight) < 1:
            raise ConfigError(f"the limits of a link must be positive: {self}")
