"""What a link has subscribed to; the way of a message to its handlers, and of its receipt back."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.matcher import MQTTMatcher

from ..errors import LinkError
from ._connection import Connection
from ._delivery import Delivery
from ._incoming import Incoming
from ._loop import LinkLoop, Timer
from ._options import Backoff
from ._topics import check_filter

_log = logging.getLogger(__name__)

Handler = Callable[[Incoming], None]


@dataclass(eq=False, slots=True)
class _Subscription:
    topic_filter: str
    handler: Handler
    qos: int
    waiting: list[Delivery]  # who wants to know the broker's answer
    refusal: LinkError | None = None


@dataclass(slots=True)
class _Request:
    """A SUBSCRIBE on its way, and what to do once it is answered."""

    subscriptions: list[_Subscription]
    then: Callable[[], None]
    again: bool  # it was refused before, on this connection


@dataclass(slots=True)
class _Receipt:
    """The acknowledgement of one delivery, due once each of ``left`` handlers has given its own.

    ``token`` is the message's place among those the broker waits for: a packet id alone would not
    do, as another connection, or a later message, may bear the same one.
    """

    packet_id: int
    token: object
    left: int


class Subscriptions:
    """``add``, ``remove`` and ``Incoming.ack`` are for any thread, the rest for the loop's."""

    def __init__(
        self,
        connection: Connection,
        loop: LinkLoop,
        client_id: str,
        backoff: Backoff,
        report: Callable[[LinkError], None],
    ) -> None:
        self._connection = connection
        self._loop = loop
        self._client_id = client_id
        self._backoff = backoff
        self._report = report
        self._current: dict[str, _Subscription] = {}
        self._matcher: Any = MQTTMatcher()  # type: ignore[no-untyped-call]
        self._removing: dict[str, list[Delivery]] = {}  # until the broker has answered
        self._requests: dict[int, _Request] = {}  # by packet id, like the next two
        self._removals: dict[int, list[str]] = {}
        self._unacknowledged: dict[int, object] = {}  # this connection's tokens
        self._acknowledgements: deque[tuple[_Receipt, Incoming]] = deque()  # to be said
        self._settle_due = False
        self._refusals = 0  # SUBSCRIBEs in a row with something refused
        self._retry: Timer | None = None
        self._end: LinkError | None = None

    @property
    def refusal(self) -> LinkError | None:
        """Why one of the present subscriptions was refused. Any thread."""
        return next((s.refusal for s in list(self._current.values()) if s.refusal), None)

    def add(self, topic_filter: str, handler: Handler, qos: int) -> Delivery:
        """MessageError when the filter is malformed."""
        check_filter(topic_filter)
        delivery = Delivery(f"subscribe to {topic_filter!r}")
        self._loop.call_soon(lambda: self._add(topic_filter, handler, qos, delivery))
        return delivery

    def remove(self, topic_filter: str) -> Delivery:
        check_filter(topic_filter)
        delivery = Delivery(f"unsubscribe from {topic_filter!r}")
        self._loop.call_soon(lambda: self._remove(topic_filter, delivery))
        return delivery

    def renew(self, then: Callable[[], None]) -> None:
        """A new connection: say it all again, and call ``then`` when it is answered."""
        if self._removing:
            self._send_removals(list(self._removing))
        if self._current:
            self._send(list(self._current.values()), then)
        else:
            then()

    def anew(self) -> None:
        """Give up each subscription at QoS 1 and make it again at once, where the connection
        stands: what the broker keeps for it is then new."""
        for subscription in list(self._current.values()):
            if subscription.qos and not subscription.refusal and self._connection.established:
                self._connection.unsubscribe([subscription.topic_filter])
                self._send([subscription], lambda: None, again=True)

    def lost(self) -> None:
        """The connection has gone, and with it every packet id."""
        self._requests.clear()
        self._removals.clear()
        self._unacknowledged.clear()
        self._refusals = 0
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def answered(self, packet_id: int, failures: list[str]) -> None:
        """SUBACK; ``failures`` as ``Events.on_subscribed`` has them."""
        request = self._requests.pop(packet_id, None)
        if request is None:
            return
        for subscription, failure in zip(request.subscriptions, failures, strict=False):
            self._note_answer(subscription, failure, request.again)
        if any(failures):
            self._ask_again_later()
        else:
            self._refusals = 0
        request.then()

    def removed(self, packet_id: int) -> None:
        """UNSUBACK."""
        for topic_filter in self._removals.pop(packet_id, []):
            for delivery in self._removing.pop(topic_filter, []):
                delivery.finish(None)

    def end(self, error: LinkError) -> None:
        """Nothing will be answered any more."""
        self._end = error
        for subscription in self._current.values():
            for delivery in subscription.waiting:
                delivery.finish(error)
        for waiting in self._removing.values():
            for delivery in waiting:
                delivery.finish(error)

    def dispatch(self, message: paho.MQTTMessage) -> None:
        """Hand a message to every handler whose filter matches."""
        payload = bytes(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._skip(message, "its topic is not UTF-8")
            return
        matching: list[_Subscription] = list(self._matcher.iter_match(topic))
        if not matching:
            self._skip(message, f"nothing handles {topic!r}", logging.INFO, topic)
            return
        receipt = self._expect(message, len(matching))
        ack = functools.partial(self._acknowledged, receipt)
        properties = dict(getattr(message.properties, "UserProperty", ()))
        for subscription in matching:
            incoming = Incoming(
                topic,
                payload,
                retained=message.retain,
                duplicate=message.dup,
                ack=ack,
                properties=properties,
            )
            try:
                subscription.handler(incoming)
            except Exception:
                _log.exception(
                    "the handler of %r failed on a message", topic, extra=self._extra(topic)
                )
                incoming.ack()

    def _add(self, topic_filter: str, handler: Handler, qos: int, delivery: Delivery) -> None:
        if self._end is not None:
            delivery.finish(self._end)
            return
        subscription = _Subscription(topic_filter, handler, qos, [delivery])
        old = self._current.get(topic_filter)
        if old is not None:
            subscription.waiting += old.waiting
        self._current[topic_filter] = subscription
        self._matcher[topic_filter] = subscription
        for superseded in self._removing.pop(topic_filter, []):
            superseded.finish(None)
        if self._connection.established:
            self._send([subscription], lambda: None)

    def _remove(self, topic_filter: str, delivery: Delivery) -> None:
        if self._end is not None:
            delivery.finish(self._end)
            return
        old = self._current.pop(topic_filter, None)
        if old is not None:
            del self._matcher[topic_filter]
            for superseded in old.waiting:
                superseded.finish(LinkError(f"unsubscribed from {topic_filter!r} meanwhile"))
        self._removing.setdefault(topic_filter, []).append(delivery)
        if self._connection.established:
            self._send_removals([topic_filter])

    def _send(
        self, subscriptions: list[_Subscription], then: Callable[[], None], *, again: bool = False
    ) -> None:
        packet_id = self._connection.subscribe([(s.topic_filter, s.qos) for s in subscriptions])
        self._requests[packet_id] = _Request(subscriptions, then, again)

    def _note_answer(self, subscription: _Subscription, failure: str, again: bool) -> None:
        """``failure`` is empty where the broker agreed."""
        if subscription.refusal is not None and not failure:
            _log.info("the broker takes %r now", subscription.topic_filter, extra=self._extra())
        subscription.refusal = None
        if failure:
            subscription.refusal = LinkError(
                f"the broker refused {self._client_id!r} the topics "
                f"{subscription.topic_filter!r}: {failure}",
                hint="check what this user may subscribe to; it is asked again",
            )
            if again:
                _log.debug("%s", subscription.refusal, extra=self._extra())
            else:
                self._report(subscription.refusal)
        waiting, subscription.waiting = subscription.waiting, []
        for delivery in waiting:
            delivery.finish(subscription.refusal)

    def _ask_again_later(self) -> None:
        """A broker may refuse because it is busy just now, not because it always will."""
        if self._retry is None:
            wait_s = self._backoff.wait_s(self._refusals)
            self._retry = self._loop.call_later(wait_s, self._ask_again)
            self._refusals += 1

    def _ask_again(self) -> None:
        self._retry = None
        refused = [s for s in self._current.values() if s.refusal is not None]
        if refused:
            self._send(refused, lambda: None, again=True)

    def _send_removals(self, topic_filters: list[str]) -> None:
        packet_id = self._connection.unsubscribe(topic_filters)
        self._removals[packet_id] = topic_filters

    def _skip(
        self, message: paho.MQTTMessage, why: str, level: int = logging.WARNING, topic: str = ""
    ) -> None:
        _log.log(level, "a message is skipped: %s", why, extra=self._extra(topic))
        if message.qos:
            self._connection.acknowledge([message.mid])

    def _expect(self, message: paho.MQTTMessage, handlers: int) -> _Receipt | None:
        """The receipt of a message that wants one."""
        if message.qos == 0:
            return None
        token = self._unacknowledged.get(message.mid)
        # The broker grew impatient and sent again what we have not acknowledged yet: one
        # acknowledgement answers both, or the second might hit a later message of the same id.
        if token is None or not message.dup:
            token = self._unacknowledged[message.mid] = object()
        return _Receipt(message.mid, token, handlers)

    def _acknowledged(self, receipt: _Receipt | None, incoming: Incoming) -> None:
        """Any thread."""
        if receipt is None:
            return
        self._acknowledgements.append((receipt, incoming))
        if self._settle_due:
            return  # it will see this one
        self._settle_due = True
        try:
            self._loop.call_soon(self._settle)
        except LinkError:
            _log.debug("acknowledged after the end: the broker will send it again")

    def _settle(self) -> None:
        """Tell the broker what has been acknowledged since the last turn, all at once."""
        self._settle_due = False  # before the last look, so that none is overlooked
        packet_ids = []
        while self._acknowledgements:
            receipt, incoming = self._acknowledgements.popleft()
            if incoming.settled:
                continue
            incoming.settled = True
            receipt.left -= 1
            if receipt.left == 0 and self._unacknowledged.get(receipt.packet_id) is receipt.token:
                del self._unacknowledged[receipt.packet_id]
                packet_ids.append(receipt.packet_id)
        if packet_ids:
            self._connection.acknowledge(packet_ids)

    def _extra(self, topic: str = "") -> dict[str, str]:
        return {"client_id": self._client_id, "topic": topic}
