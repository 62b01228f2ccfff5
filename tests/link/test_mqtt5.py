"""MQTT 5 where the broker speaks it, which mosquitto does, and 3.1.1 where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from propeller_fl.link import Incoming, Link, LinkLoop

from ..support.brokers import RunningBroker, embedded_broker, mosquitto
from .conftest import QUICK

PATIENCE_S = 30


@pytest.fixture
def speaks5(tmp_path: Path) -> Iterator[RunningBroker]:
    with mosquitto(tmp_path) as running:
        yield running


def started(loop: LinkLoop, broker: RunningBroker, name: str, *, mqtt5: bool = True) -> Link:
    link = Link(loop, broker.address, name, backoff=QUICK, mqtt5=mqtt5)
    link.start()
    link.wait_connected(PATIENCE_S)
    return link


def take(received: SimpleQueue[Incoming]) -> Incoming:
    incoming = received.get(timeout=PATIENCE_S)
    incoming.ack()
    return incoming


def test_properties_travel_beside_the_payload(speaks5: RunningBroker, loop: LinkLoop) -> None:
    new, old = SimpleQueue[Incoming](), SimpleQueue[Incoming]()
    link = started(loop, speaks5, "new")
    link.subscribe("a", new.put).wait(PATIENCE_S)
    started(loop, speaks5, "old", mqtt5=False).subscribe("a", old.put).wait(PATIENCE_S)

    link.publish("a", b"\x00\xff", properties={"who": "p-1", "é": ""}).wait(PATIENCE_S)

    incoming = take(new)
    assert (incoming.payload, incoming.properties) == (b"\x00\xff", {"who": "p-1", "é": ""})
    incoming = take(old)
    assert (incoming.payload, incoming.properties) == (b"\x00\xff", {})


def test_all_else_is_as_ever(speaks5: RunningBroker, loop: LinkLoop) -> None:
    received: SimpleQueue[Incoming] = SimpleQueue()
    link = started(loop, speaks5, "one")
    link.publish("kept", b"before", retain=True).wait(PATIENCE_S)
    link.subscribe("kept", received.put, qos=0).wait(PATIENCE_S)
    link.subscribe("said", received.put).wait(PATIENCE_S)
    link.say([("said", b""), ("said", b"x" * 300)])  # written by hand, without paho

    found = [take(received) for _ in range(3)]
    assert [(one.topic, one.payload) for one in found] == [
        ("kept", b"before"),
        ("said", b""),
        ("said", b"x" * 300),
    ]
    link.unsubscribe("said").wait(PATIENCE_S)
    for number in range(100):  # more than such a broker may let be under way
        link.publish("other", b"%d" % number)
    link.publish("other", b"last").wait(PATIENCE_S)


def test_a_session_outlives_its_connection(speaks5: RunningBroker, loop: LinkLoop) -> None:
    received: SimpleQueue[Incoming] = SimpleQueue()
    first = started(loop, speaks5, "keeps")
    first.subscribe("a", received.put).wait(PATIENCE_S)
    first.close(PATIENCE_S)
    started(loop, speaks5, "other").publish("a", b"meanwhile").wait(PATIENCE_S)

    again = Link(loop, speaks5.address, "keeps", backoff=QUICK, mqtt5=True)
    present: SimpleQueue[bool] = SimpleQueue()
    again.on_up = present.put
    again.subscribe("a", received.put)
    again.start()

    assert take(received).payload == b"meanwhile"
    assert present.get(timeout=PATIENCE_S)


def test_a_broker_that_does_not_speak_it_is_spoken_to_as_before(
    tmp_path: Path, loop: LinkLoop
) -> None:
    received: SimpleQueue[Incoming] = SimpleQueue()
    with embedded_broker(tmp_path) as broker:
        link = Link(loop, broker.address, "one", backoff=QUICK, mqtt5=True)
        errors: SimpleQueue[Exception] = SimpleQueue()
        link.on_error = errors.put
        link.subscribe("a", received.put)
        link.start()
        link.wait_connected(PATIENCE_S)
        link.publish("a", b"payload", properties={"who": "p-1"}).wait(PATIENCE_S)
        incoming = take(received)
        assert (incoming.payload, incoming.properties) == (b"payload", {})
        link.say([("a", b"said")])
        assert take(received).payload == b"said"
        assert errors.empty()  # it is no failure, and nobody waits
        link.close(PATIENCE_S)
