"""One MQTT session, 3.1.1 or 5, QoS 1 unless asked otherwise, that comes back by itself."""

from __future__ import annotations

import enum
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import paho.mqtt.client as paho

from ..errors import ConfigError, LinkError, MessageError
from ._address import BrokerAddress
from ._client import Received
from ._connection import Connection, Refusal
from ._delivery import Delivery
from ._loop import LinkLoop, Timer
from ._options import Backoff, LinkLimits, Will
from ._outgoing import KEPT_WITHIN_S, Outgoing
from ._subscriptions import Handler, Subscriptions
from ._topics import check_topic

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_BACKOFF = Backoff()
_LIMITS = LinkLimits()
_MIN_KEEPALIVE_S = 2  # nats-server rounds 1.5 periods down to whole seconds: 1 leaves no slack
_STABLE_S = 5.0  # a session that lasted this long resets the backoff
_PATIENCE_S = 10.0  # with a broker that does not answer SUBSCRIBE: others wait to be opened
_ANEW_S = 20.0  # at least; until then what waited for the session has come
_GOODBYE_S = 1.0  # for the goodbye itself, once the queue is empty or time is up


class _State(enum.Enum):
    NEW = enum.auto()
    RUNNING = enum.auto()
    CLOSING = enum.auto()  # nothing new is taken; what is queued is being sent
    CLOSED = enum.auto()


class Link:
    """One MQTT session.

    A handler receives each message whose topic matches its filter and must ``ack`` it once it has
    been handled durably, from any thread. The broker stops sending when too many messages wait
    for that. A handler that raises is logged at error level and the message acknowledged, so that
    a poison message cannot block the session. Where filters overlap, each handler gets the message
    (once or more, brokers differ), and it is acknowledged when all of them have.

    Subscribe before ``start`` to whatever a persistent session (``clean_session=False``) must not
    lose: a message that no handler matches is logged and acknowledged.

    Retained messages come again after every reconnect, as after every subscribe.

    Where the broker is a cluster and the session has moved to another node, it makes its
    subscriptions anew ``anew_after_s`` to twice that later: by reports on nats-server (its issues
    6989 and 7664) one can be without messages for ever once its node has died, whoever connects.

    There too a message to be retained is sent again, until a later one has its topic, when its
    acknowledgement took ``kept_within_s`` or more: nats-server gives one after 5 s for what nobody
    retained, as while the nodes elect. Such a delivery is done once an acknowledgement was quick.

    With ``mqtt5`` it asks for MQTT 5, and speaks 3.1.1 with a broker that refuses that.

    Assign before ``start``; each is called on the loop's thread:
    ``on_up(session_present)``  connected, every subscription answered; after each reconnect too
    ``on_down(error)``          a session that was up has ended; the link is already trying again
    ``on_error(error)``         an attempt to connect failed, or a subscription was refused
    """

    def __init__(
        self,
        loop: LinkLoop,
        address: BrokerAddress,
        client_id: str,
        *,
        will: Will | None = None,
        clean_session: bool = False,
        keepalive_s: int = 30,
        connect_timeout_s: float = 10.0,
        backoff: Backoff = _BACKOFF,
        limits: LinkLimits = _LIMITS,
        mqtt5: bool = False,
        anew_after_s: float = _ANEW_S,
        kept_within_s: float = KEPT_WITHIN_S,
    ) -> None:
        if not client_id:
            raise ConfigError("an MQTT session needs a client id")
        if keepalive_s < _MIN_KEEPALIVE_S:
            raise ConfigError(f"a keepalive of {keepalive_s} s is under {_MIN_KEEPALIVE_S} s")
        self.on_up: Callable[[bool], None] | None = None
        self.on_down: Callable[[LinkError], None] | None = None
        self.on_error: Callable[[LinkError], None] | None = None
        self._loop = loop
        self._address = address
        self._client_id = client_id
        self._backoff = backoff
        self._limits = limits
        self._anew_after_s = anew_after_s
        self._anew: Timer | None = None
        self._kept_within_s = kept_within_s
        self._connection = Connection(
            loop,
            address,
            client_id,
            will=will,
            clean_session=clean_session,
            keepalive_s=keepalive_s,
            connect_timeout_s=connect_timeout_s,
            events=self,
            mqtt5=mqtt5,
        )
        self._subscriptions = Subscriptions(
            self._connection, loop, client_id, backoff, self._report
        )
        self._condition = threading.Condition()  # guards the next seven
        self._state = _State.NEW
        self._up = False
        self._last_error: LinkError | None = None
        self._queue: deque[Outgoing] = deque()
        self._queued = 0
        self._queued_bytes = 0
        self._feed_due = False
        self._inflight: dict[int, Outgoing] = {}  # by packet id
        self._finishing = False
        self._failures = 0
        self._said: set[str] = set()  # errors of this outage, not worth a warning twice
        self._up_since_s = 0.0
        self._timer: Timer | None = None  # the next attempt, or the end of patience in ``close``
        loop.adopt(self, self._abandon)

    @property
    def client_id(self) -> str:
        return self._client_id

    @property
    def connected(self) -> bool:
        """Up: connected, and every subscription answered."""
        return self._up

    @property
    def queued(self) -> int:
        """Messages published and not yet acknowledged by the broker."""
        return self._queued

    def start(self) -> None:
        """Begin to connect, and keep at it until ``close``."""
        with self._condition:
            if self._state is not _State.NEW:
                raise LinkError(f"link {self._client_id!r} was already started")
            self._state = _State.RUNNING
        self._loop.call_soon(self._connect)

    def wait_connected(self, timeout_s: float) -> None:
        """Return once up. LinkError at once when the broker refuses the session (login, client
        id, certificate) or one of its subscriptions; after ``timeout_s``, with the last error,
        when it cannot be reached. Never on the loop's thread."""
        with self._condition:
            self._condition.wait_for(self._settled, timeout_s)
            refusal = self._refusal()
            if refusal is not None:
                raise refusal
            if self._state is _State.CLOSED:
                raise LinkError(f"link {self._client_id!r} is closed")
            if not self._up:
                why = self._last_error or f"{self._address} has not answered yet"
                raise LinkError(f"not connected within {timeout_s:g} s: {why}")

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: Literal[0, 1] = 1) -> Delivery:
        """Subscribe, now and after every reconnect. The same filter again replaces its handler.
        MessageError when the filter is malformed; the Delivery fails when the broker refuses it,
        and the broker is asked again, with backoff, until it agrees.

        ``qos=0`` is for retained messages: the broker sends them again at every subscribe. Two
        things of the embedded broker speak against QoS 1 there. It can lose messages on their way
        to others while it forgets such a subscription; and what it has sent as retained and we had
        not acknowledged when we died counts for ever as under way to this session: with as many
        of them as it lets be under way (256), the session never hears anything again."""
        self._refuse_if_closed()
        return self._subscriptions.add(topic_filter, handler, qos)

    def unsubscribe(self, topic_filter: str) -> Delivery:
        """Take the handler away, and tell the broker."""
        self._refuse_if_closed()
        return self._subscriptions.remove(topic_filter)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> Delivery:
        """Queue for sending with QoS 1, in order. Works while disconnected, and before ``start``.
        ``properties`` go beside the payload, where MQTT 5 is spoken, and nowhere else.

        MessageError (``too_large``, ``bad_field``) for what a broker would punish by hanging up;
        LinkError when the queue is full or the link closed.
        """
        check_topic(topic)
        limits = self._limits
        size_bytes = len(payload)
        self._refuse_too_large(topic, payload)
        delivery = Delivery(f"publish on {topic!r}")
        item = Outgoing(topic, payload, retain, delivery, properties or {})
        with self._condition:
            self._refuse_if_closed()
            if (
                self._queued >= limits.max_queued
                or self._queued_bytes + size_bytes > limits.max_queued_bytes
            ):
                raise LinkError(
                    f"outgoing queue of {self._client_id!r} is full: {self._queued} messages, "
                    f"{self._queued_bytes} bytes",
                    hint="wait for deliveries, or mend the connection to the broker",
                )
            self._queued += 1
            self._queued_bytes += size_bytes
            self._queue.append(item)
        self._feed_soon()
        return item.delivery

    def say(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send each (topic, payload) once, at QoS 0: for what is asked for again where it is lost.

        Nobody tells whether it has arrived, and while disconnected it is dropped. A hundred of
        these cost about as much as one ``publish``. MessageError as for that; LinkError once
        closed.
        """
        for topic, payload in messages:
            check_topic(topic)
            self._refuse_too_large(topic, payload)
        self._refuse_if_closed()
        self._loop.call_soon(lambda: self._connection.say(messages))

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what is queued while connected, say goodbye (no will), end. What could not be sent
        in time fails with LinkError. Final; again is harmless. Not from the loop's thread."""
        if self._loop.in_loop():
            raise RuntimeError("Link.close waits for the loop's thread, and was called on it")
        with self._condition:
            if self._state in (_State.NEW, _State.RUNNING):
                self._state = _State.CLOSING
                self._loop.call_soon(lambda: self._begin_close(timeout_s))
            if not self._condition.wait_for(
                lambda: self._state is _State.CLOSED, timeout_s + 2 * _GOODBYE_S
            ):
                raise LinkError(
                    f"link {self._client_id!r} did not close within {timeout_s:g} s",
                    hint="a message handler or callback is blocking the loop, or it never started",
                )

    def abort(self) -> None:
        """End as a crash would: hang up without goodbye, so that the broker publishes the will.
        What is queued fails with LinkError. Any thread; final."""
        with self._condition:
            if self._state is _State.CLOSED:
                return
            self._state = _State.CLOSING
        self._loop.call_soon(self._finish)

    # What the connection reports, on the loop's thread.

    def on_established(self, session_present: bool) -> None:
        """For the connection."""
        _log.info(
            "connected",
            extra={"client_id": self._client_id, "session_present": session_present},
        )
        if self._connection.moved:
            wait_s = self._anew_after_s * random.uniform(1, 2)  # not all who were at a dead node
            self._anew = self._loop.call_later(wait_s, self._subscriptions.anew)
        self._subscriptions.renew(lambda: self._came_up(session_present))
        self._loop.call_later(_PATIENCE_S, lambda: self._loop.end_opening(self))
        self._feed_soon()  # later, so that packets in flight go out again before newer ones

    def on_closed(self, error: LinkError | None) -> None:
        """For the connection."""
        self._loop.end_opening(self)
        if self._anew is not None:
            self._anew.cancel()
        self._subscriptions.lost()
        with self._condition:
            was_up, self._up = self._up, False
            self._last_error = error
            self._condition.notify_all()
            running = self._state is _State.RUNNING
        if not running:
            self._finish()
            return
        if error is None:
            error = LinkError(f"{self._address} ended the session")
        if was_up and time.monotonic() - self._up_since_s >= _STABLE_S:
            self._failures = 0
        if was_up or self._failures == 0:
            self._said.clear()
        news = str(error) not in self._said
        self._said.add(str(error))
        level = logging.WARNING if news else logging.DEBUG
        _log.log(level, "%s", error, extra={"client_id": self._client_id})
        self._call(self.on_down if was_up else self.on_error, error)
        rounds = self._failures // self._connection.places  # each node of a cluster is asked once
        self._timer = self._loop.call_later(self._backoff.wait_s(rounds), self._connect)
        self._failures += 1

    def on_message(self, message: Received | paho.MQTTMessage) -> None:
        """For the connection."""
        self._subscriptions.dispatch(message)

    def on_published(self, packet_id: int) -> None:
        """For the connection."""
        item = self._inflight.pop(packet_id, None)
        if item is None:
            return  # its link-side end came first, when closing
        if not self._sent_again(item):
            self._settle(item, None)
        self._feed_soon()
        if self._state is _State.CLOSING and not self._queued:
            self._loop.call_soon(self._say_goodbye)

    def on_subscribed(self, packet_id: int, failures: list[str]) -> None:
        """For the connection."""
        self._subscriptions.answered(packet_id, failures)

    def on_unsubscribed(self, packet_id: int) -> None:
        """For the connection."""
        self._subscriptions.removed(packet_id)

    # The rest runs on the loop's thread unless it says otherwise.

    def _connect(self) -> None:
        if self._state is _State.RUNNING and self._connection.closed:
            self._loop.begin_opening(self, self._open)

    def _open(self) -> None:
        if self._state is _State.RUNNING and self._connection.closed:
            self._connection.connect()
        else:
            self._loop.end_opening(self)

    def _came_up(self, session_present: bool) -> None:
        self._loop.end_opening(self)
        self._up_since_s = time.monotonic()
        with self._condition:
            self._up = True
            self._last_error = None
            self._condition.notify_all()
        self._call(self.on_up, session_present)

    def _feed_soon(self) -> None:
        """Any thread."""
        with self._condition:
            if self._feed_due:
                return
            self._feed_due = True
        self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        """Give paho as many messages as may be in flight."""
        with self._condition:
            self._feed_due = False
        while (
            self._connection.established
            and self._queue
            and len(self._inflight) < self._limits.max_inflight
            and len(self._inflight) < self._connection.receive_maximum
        ):
            item = self._queue[0]
            packet_id = self._connection.publish(
                item.topic, item.payload, item.retain, item.properties
            )
            if packet_id is None:
                return  # an acknowledgement will free one and call again
            item.sent()
            self._inflight[packet_id] = item
            self._queue.popleft()

    def _sent_again(self, item: Outgoing) -> bool:
        """Whether an acknowledged message is on its way once more."""
        if self._connection.places == 1 or not item.may_be_forgotten(self._kept_within_s):
            return False
        with self._condition:
            others = [*self._inflight.values(), *self._queue]
            if any(other.retain and other.topic == item.topic for other in others):
                return False
            self._queue.appendleft(item)
        _log.info(
            "%r was acknowledged late, and may not be retained: it is sent again",
            item.topic,
            extra={"client_id": self._client_id},
        )
        return True

    def _settle(self, item: Outgoing, error: LinkError | None) -> None:
        with self._condition:
            self._queued -= 1
            self._queued_bytes -= len(item.payload)
        item.delivery.finish(error)

    def _begin_close(self, timeout_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._connection.established:
            self._finish()
            return
        self._timer = self._loop.call_later(timeout_s, self._say_goodbye)
        if not self._queued:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        if not self._connection.established:
            return  # it ended meanwhile, or the goodbye is said
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_GOODBYE_S, self._finish)
        self._connection.disconnect()

    def _abandon(self) -> None:
        """The loop is stopping under us."""
        with self._condition:
            self._state = _State.CLOSING
        self._finish()

    def _finish(self) -> None:
        """The end, with or without a connection."""
        if self._finishing:
            return
        self._finishing = True
        gone = LinkError(f"link {self._client_id!r} was closed before the broker acknowledged")
        if self._timer is not None:
            self._timer.cancel()
        if not self._connection.closed:
            self._connection.drop(gone)
        self._loop.disown(self)
        self._loop.end_opening(self)
        unsent = [*self._inflight.values(), *self._queue]
        if unsent:
            _log.warning(
                "closed with %d messages not acknowledged by the broker",
                len(unsent),
                extra={"client_id": self._client_id},
            )
        self._inflight.clear()
        self._queue.clear()
        for item in unsent:
            self._settle(item, gone)
        self._subscriptions.end(gone)
        with self._condition:
            self._state = _State.CLOSED
            self._condition.notify_all()

    def _refuse_too_large(self, topic: str, payload: bytes) -> None:
        """Any thread."""
        limit_bytes = self._limits.max_payload_bytes
        if len(payload) > limit_bytes:
            raise MessageError(
                "too_large",
                f"{len(payload)} bytes for {topic!r} are over the limit of {limit_bytes} bytes",
                hint="raise it here and on the broker, or send less",
            )

    def _refuse_if_closed(self) -> None:
        """Any thread."""
        if self._state in (_State.CLOSING, _State.CLOSED):
            raise LinkError(f"link {self._client_id!r} is closed")

    def _settled(self) -> bool:
        """Any thread, holding the condition."""
        return self._up or self._state is _State.CLOSED or self._refusal() is not None

    def _refusal(self) -> LinkError | None:
        """Any thread, holding the condition."""
        if isinstance(self._last_error, Refusal):
            return self._last_error
        return self._subscriptions.refusal if self._up else None

    def _report(self, error: LinkError) -> None:
        _log.error("%s", error, extra={"client_id": self._client_id})
        self._call(self.on_error, error)

    def _call(self, callback: Callable[[_T], None] | None, value: _T) -> None:
        if callback is None:
            return
        try:
            callback(value)
        except Exception:
            _log.exception("a callback failed", extra={"client_id": self._client_id})
