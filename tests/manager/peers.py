"""Plain links that play coordinator, proplets and operators."""

from __future__ import annotations

from collections.abc import Callable

from propeller_fl.link import Backoff, BrokerAddress, Incoming, Link, LinkLimits, LinkLoop

from ..support.wait import wait_until

QUICK = Backoff(first_s=0.02, cap_s=0.2)
LIMITS = LinkLimits()


class Peer:
    """A link that is up, and remembers what it received on each topic."""

    def __init__(
        self,
        loop: LinkLoop,
        address: BrokerAddress,
        client_id: str,
        *topic_filters: str,
        mqtt5: bool = False,
    ) -> None:
        self.link = new_link(loop, address, client_id, mqtt5=mqtt5)
        self.received: list[Incoming] = []
        for topic_filter in topic_filters:
            self.link.subscribe(topic_filter, self._receive)
        self.link.start()
        self.link.wait_connected(10)

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, and wait for the broker."""
        self.link.publish(topic, payload, retain=retain).wait(10)

    def ask_for(self, topic: str) -> None:
        """Subscribe, perhaps once more, so that the broker sends what is retained there."""
        self.link.subscribe(topic, self._receive, qos=0).wait(10)

    def beside(self, topic: str) -> list[dict[str, str]]:
        """What came beside the payloads on ``topic``."""
        return [dict(one.properties) for one in list(self.received) if one.topic == topic]

    def heard(self, topic: str) -> list[bytes]:
        return [incoming.payload for incoming in list(self.received) if incoming.topic == topic]

    def expect(self, topic: str, count: int = 1) -> list[bytes]:
        """The first ``count`` payloads on ``topic``, once they are here."""
        wait_until(
            lambda: len(self.heard(topic)) >= count, 10, f"{count} messages on {topic} arrive"
        )
        return self.heard(topic)

    def expect_like(self, topic: str, matches: Callable[[bytes], bool]) -> bytes:
        """A payload on ``topic`` that ``matches``, once it is here."""
        found = wait_until(
            lambda: [payload for payload in self.heard(topic) if matches(payload)],
            10,
            f"the right message on {topic} arrives, not only {self.heard(topic)[-3:]}",
        )
        return found[0]

    def _receive(self, incoming: Incoming) -> None:
        self.received.append(incoming)
        incoming.ack()


def new_link(
    loop: LinkLoop,
    address: BrokerAddress,
    client_id: str,
    limits: LinkLimits = LIMITS,
    *,
    mqtt5: bool = False,
) -> Link:
    """Not started yet."""
    return Link(loop, address, client_id, backoff=QUICK, limits=limits, mqtt5=mqtt5)
