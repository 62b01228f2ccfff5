"""Thousands of proplets that have their updates ready, in one process and over a few sessions.

Each keeps to the protocol: it sends its update, and sends it again with a growing wait until the
coordinator has answered these very bytes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from propeller_fl.link import BrokerAddress, Delivery, Incoming, Link, LinkLimits, LinkLoop
from propeller_fl.proplet import MAX_WAIT_S
from propeller_fl.wire import AckStatus, Topics, UpdateAck

_SESSIONS: Final = 4
_LIMITS: Final = LinkLimits(max_queued=100_000)
_TOPICS: Final = Topics()


@dataclass(slots=True)
class _Member:
    payload: bytes
    sha256: str
    wait_s: float
    sends: int = 0
    answer: UpdateAck | None = None


class Crowd:
    """``updates`` by proplet id. Counts may be read from any thread."""

    def __init__(
        self,
        loop: LinkLoop,
        address: BrokerAddress,
        round_id: str,
        updates: Mapping[str, bytes],
        resend_after_s: float,
    ) -> None:
        self._loop = loop
        self._round_id = round_id
        self._members = {
            proplet_id: _Member(payload, hashlib.sha256(payload).hexdigest(), resend_after_s)
            for proplet_id, payload in updates.items()
        }
        self._links = [
            Link(loop, address, f"crowd-{number}", clean_session=True, limits=_LIMITS)
            for number in range(_SESSIONS)
        ]
        self._taken: set[str] = set()
        self._answered = 0
        self._links[0].subscribe(_TOPICS.ack(round_id, "+"), self._on_ack)
        for link in self._links:
            link.start()
            link.wait_connected(30)

    @property
    def taken(self) -> int:
        """Of how many the broker has taken the update at least once."""
        return len(self._taken)

    @property
    def answered(self) -> int:
        """How many have had their answer."""
        return self._answered

    @property
    def sends(self) -> int:
        """How many updates were sent, repeats included."""
        return sum(member.sends for member in self._members.values())

    @property
    def accepted(self) -> set[str]:
        """Those whose update the coordinator said it has."""
        return {
            proplet_id
            for proplet_id, member in self._members.items()
            if member.answer is not None and member.answer.status is AckStatus.ACCEPTED
        }

    def send(self) -> None:
        """All of them at once."""
        for number, proplet_id in enumerate(self._members):
            self._loop.call_soon(partial(self._send, self._links[number % _SESSIONS], proplet_id))

    def _send(self, link: Link, proplet_id: str) -> None:
        member = self._members[proplet_id]
        if member.answer is None:
            member.sends += 1
            delivery = link.publish(_TOPICS.update(self._round_id, proplet_id), member.payload)
            delivery.add_done_callback(partial(self._on_taken, link, proplet_id))

    def _on_taken(self, link: Link, proplet_id: str, delivery: Delivery) -> None:
        if delivery.error is not None:
            return  # closed
        self._taken.add(proplet_id)
        member = self._members[proplet_id]
        wait_s = member.wait_s * (0.75 + random.random() / 2)
        member.wait_s = min(2 * member.wait_s, MAX_WAIT_S)
        self._loop.call_later(wait_s, partial(self._send, link, proplet_id))

    def _on_ack(self, incoming: Incoming) -> None:
        ack = UpdateAck.decode(incoming.payload)
        member = self._members[ack.proplet_id]
        if ack.sha256 == member.sha256 and member.answer is None:
            member.answer = ack
            self._answered += 1
        incoming.ack()


@contextmanager
def crowd(
    address: BrokerAddress, round_id: str, updates: Mapping[str, bytes], *, resend_after_s: float
) -> Iterator[Crowd]:
    with LinkLoop(name="crowd") as loop:
        yield Crowd(loop, address, round_id, updates, resend_after_s)
