"""A broker and the ways to it. To the coordinator it has a persistent session of QoS 1; all others
are told once, late, twice or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from propeller_fl.link import Incoming
from tests.simulation.world import World

Handler = Callable[[str, bytes], None]

_REDELIVER_S = 5.0


def kind_of(topic: str) -> str:
    """What a topic is for: ``start``, ``stop``, ``update``, ``forwarded``, ``model``, ``publish``,
    ``ack``, ``launch``, ``status`` or ``complete``."""
    match topic.split("/"):
        case ["fml", "updates"]:
            return "forwarded"
        case ["fl", "rounds", "start"]:
            return "start"
        case ["fl", "models", "publish"]:
            return "publish"
        case ["fl", "models", _]:
            return "model"
        case ["fl", "rounds", _, "updates" | "acks" as what, _]:
            return what.removesuffix("s")
        case ["fl", "rounds", _, "stop" | "launch" | "status" | "complete" as what]:
            return what
    raise ValueError(topic)


class Broker:
    """What is published reaches whoever listens for its kind, and is retained where it says so.

    ``watch`` sees every message as it arrives here.
    """

    def __init__(self, world: World, watch: Callable[[str, bytes, bool], None]) -> None:
        self.retained: dict[str, bytes] = {}
        self._world = world
        self._watch = watch
        self._handlers: dict[str, list[Handler]] = {}
        self.session = Session(world, self)

    def listen(self, kind: str, handler: Handler, proplet_id: str = "") -> None:
        """``proplet_id`` goes with acknowledgements, which are for one."""
        self._handlers.setdefault(kind + proplet_id, []).append(handler)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """The message is here."""
        self._watch(topic, payload, retain)
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        kind = kind_of(topic)
        addressee = topic.rpartition("/")[2] if kind == "ack" else ""
        for handler in self._handlers.get(kind + addressee, ()):
            self.carry(partial(handler, topic, payload))
        if kind in ("start", "stop", "launch", "forwarded", "model", "publish"):
            self.session.offer(topic, payload)

    def forget(self, beginning: str) -> None:
        """What is retained on topics that begin so is gone."""
        self.retained = {t: p for t, p in self.retained.items() if not t.startswith(beginning)}

    def carry(self, arrive: Callable[[], None]) -> None:
        """Bring something to somebody, as the weather has it."""
        world = self._world
        if world.happens(world.weather.loss):
            return
        world.at(world.delay_s(), arrive)
        if world.happens(world.weather.duplication):
            world.at(world.delay_s(), arrive)


class Receiver(Protocol):
    """The coordinator's process, as its session sees it."""

    def receive(self, incoming: Incoming) -> None: ...


@dataclass(slots=True)
class _Kept:
    topic: str
    payload: bytes


class Session:
    """What the broker keeps for the coordinator until it is acknowledged. Delivered in any order,
    more than once, and again after every reconnect."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker
        self.starts: list[bytes] = []  # that were kept at some time
        self._kept: dict[int, _Kept] = {}
        self._number = 0
        self._connection = 0
        self._receiver: Receiver | None = None
        self._impatient = world.rng.random() < 0.5  # some brokers are, some wait for a reconnect

    @property
    def empty(self) -> bool:
        return not self._kept

    @property
    def unacknowledged(self) -> list[str]:
        """The topics of what is kept, oldest first."""
        return [kept.topic for kept in self._kept.values()]

    def offer(self, topic: str, payload: bytes) -> None:
        """A message for the coordinator. The broker may lose it here, and then nobody has it."""
        world = self._world
        if world.happens(world.weather.loss):
            world.note("the broker loses a message on %s", topic)
            return
        if kind_of(topic) == "start":
            self.starts.append(payload)
        for _ in range(2 if world.happens(world.weather.duplication) else 1):
            self._number += 1
            self._kept[self._number] = _Kept(topic, payload)
            self._deliver_later(self._number, duplicate=False)

    def disconnect(self) -> None:
        """What was under way is lost; it is kept, all of it."""
        self._connection += 1
        self._receiver = None

    def connect(self, receiver: Receiver) -> None:
        """A process has connected: it gets what is kept, and what is retained."""
        self._connection += 1
        self._receiver = receiver
        for number in self._kept:
            self._deliver_later(number, duplicate=True)
        self.send_retained("fl/models/")
        self.send_retained("fl/rounds/", "/launch")

    def send_retained(self, beginning: str, end: str = "") -> None:
        """What is sent for a subscription."""
        for topic, payload in self._broker.retained.items():
            if topic.startswith(beginning) and topic.endswith(end):
                connection = self._connection
                self._world.at(
                    self._world.delay_s(), partial(self._hand_over, connection, topic, payload)
                )

    def _deliver_later(self, number: int, *, duplicate: bool) -> None:
        deliver = partial(self._deliver, self._connection, number, duplicate)
        self._world.at(self._world.delay_s(), deliver)

    def _deliver(self, connection: int, number: int, duplicate: bool) -> None:
        kept = self._kept.get(number)
        receiver = self._receiver
        if kept is None or connection != self._connection or receiver is None:
            return  # it was acknowledged, or comes with the next connection
        incoming = Incoming(
            kept.topic,
            kept.payload,
            retained=False,
            duplicate=duplicate,
            ack=lambda _: self._world.at(
                self._world.delay_s(), partial(self._acknowledged, connection, number)
            ),
        )
        receiver.receive(incoming)
        if self._impatient:
            self._world.at(_REDELIVER_S, partial(self._deliver, connection, number, True))

    def _hand_over(self, connection: int, topic: str, payload: bytes) -> None:
        receiver = self._receiver
        if receiver is not None and connection == self._connection:
            receiver.receive(
                Incoming(topic, payload, retained=True, duplicate=False, ack=lambda _: None)
            )

    def _acknowledged(self, connection: int, number: int) -> None:
        if connection == self._connection:
            self._kept.pop(number, None)


@dataclass(slots=True, eq=False)
class _Sent:
    topic: str
    payload: bytes
    retain: bool
    taken: Callable[[], None] | None
    arrived: bool = False


class Uplink:
    """From the coordinator's process to the broker, and the answers back: both in order, as MQTT
    and TCP have it. What the broker has not acknowledged when the connection ends goes out again
    with the next, if the process is still there."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker
        self._sent: list[_Sent] = []  # and not acknowledged
        self._connection = 0
        self._connected = False
        self._last_arrival_s = self._last_answer_s = 0.0

    @property
    def idle(self) -> bool:
        return not self._sent

    def publish(
        self, topic: str, payload: bytes, retain: bool, taken: Callable[[], None] | None = None
    ) -> None:
        """``taken`` is called once the broker has acknowledged it."""
        sent = _Sent(topic, payload, retain, taken)
        self._sent.append(sent)
        if self._connected:
            self._send(sent)

    def tell(self, topic: str, payload: bytes) -> None:
        """At QoS 0: lost with the connection, and when there is none."""
        if self._connected:
            connection = self._connection
            self._in_order(lambda: self._heard(connection, topic, payload))

    def connect(self) -> None:
        self._connected = True
        self._last_arrival_s = self._last_answer_s = 0.0
        for sent in self._sent:
            sent.arrived = False
            self._send(sent)

    def cut(self, *, process_lives: bool) -> None:
        """The connection ends: of what was under way, the first few still arrive."""
        under_way = [sent for sent in self._sent if not sent.arrived]
        self._connection += 1
        if self._connected:
            for sent in under_way[: self._world.rng.randint(0, len(under_way))]:
                self._broker.publish(sent.topic, sent.payload, retain=sent.retain)
        self._connected = False
        if not process_lives:
            self._sent.clear()

    def _send(self, sent: _Sent) -> None:
        self._in_order(partial(self._arrive, self._connection, sent))

    def _in_order(self, arrive: Callable[[], None]) -> None:
        arrival_s = self._world.now_s + self._world.delay_s()
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        self._world.at_time(self._last_arrival_s, arrive)

    def _heard(self, connection: int, topic: str, payload: bytes) -> None:
        if connection == self._connection:
            self._broker.publish(topic, payload, retain=False)

    def _arrive(self, connection: int, sent: _Sent) -> None:
        if connection != self._connection:
            return
        sent.arrived = True
        self._broker.publish(sent.topic, sent.payload, retain=sent.retain)
        answer_s = self._world.now_s + self._world.delay_s()
        self._last_answer_s = max(self._last_answer_s, answer_s)
        self._world.at_time(self._last_answer_s, partial(self._acknowledged, connection, sent))

    def _acknowledged(self, connection: int, sent: _Sent) -> None:
        if connection != self._connection:
            return
        self._sent.remove(sent)
        if sent.taken is not None:
            sent.taken()
