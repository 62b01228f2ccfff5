"""A link that has been told of several brokers: it is at one, and goes on when that is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from propeller_fl.link import Incoming, Link, LinkLoop

from ..support.brokers import RunningBroker, embedded_broker, free_port
from ..support.wait import wait_until
from .conftest import QUICK, Connect
from .scripted import (
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Packet,
    Peer,
    ScriptedBroker,
    scripted_broker,
)

PATIENCE_S = 60


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[RunningBroker, RunningBroker]]:
    """Brokers that know nothing of each other."""
    with contextlib.ExitStack() as stack:
        one, other = (
            stack.enter_context(embedded_broker(tmp_path / name)) for name in ("one", "other")
        )
        yield one, other


@dataclass(frozen=True)
class Settled:
    """A link, the broker it is at, and the one it may go to."""

    link: Link
    home: RunningBroker
    refuge: RunningBroker


@pytest.fixture
def settled(two: tuple[RunningBroker, RunningBroker], connect: Connect) -> Settled:
    one, other = (broker.address for broker in two)
    address = replace(one, others=((other.host, other.port),))
    home = address.home_of("one")
    return Settled(connect(address, "one"), two[home], two[1 - home])


def test_it_goes_to_the_next_when_its_broker_dies_and_sends_what_waits(
    settled: Settled, connect: Connect
) -> None:
    link = settled.link
    received: SimpleQueue[Incoming] = SimpleQueue()
    link.subscribe("a/#", received.put).wait(PATIENCE_S)
    listener: SimpleQueue[Incoming] = SimpleQueue()
    at_refuge = connect(settled.refuge.address, "listener")
    at_refuge.subscribe("a/#", listener.put).wait(PATIENCE_S)

    settled.home.kill()
    link.publish("a/b", b"after").wait(PATIENCE_S)

    assert listener.get(timeout=PATIENCE_S).payload == b"after"
    assert received.get(timeout=PATIENCE_S).payload == b"after"  # subscribed there as well


def test_it_comes_back_when_the_next_dies_too(settled: Settled) -> None:
    settled.home.kill()
    settled.link.publish("a", b"1").wait(PATIENCE_S)
    settled.home.start()
    settled.refuge.kill()
    settled.link.publish("a", b"2").wait(PATIENCE_S)
    wait_until(lambda: settled.link.connected, PATIENCE_S, "it is up at its first place again")


def test_one_that_is_not_there_at_the_start_is_passed_over(
    two: tuple[RunningBroker, RunningBroker], connect: Connect
) -> None:
    alive = two[0].address
    for client_id in ("a", "b", "c", "d", "e", "f"):  # some of which begin at either
        connect(replace(alive, others=((alive.host, free_port()),)), client_id)


def test_subscriptions_are_made_anew_once_the_session_has_moved(loop: LinkLoop) -> None:
    with scripted_broker() as first, scripted_broker() as second:
        other = second.address
        address = replace(first.address, others=((other.host, other.port),))
        brokers = (first, second)
        home = brokers[address.home_of("one")]
        refuge = brokers[1 - address.home_of("one")]
        link = Link(loop, address, "one", backoff=QUICK, anew_after_s=0)
        link.subscribe("a", Incoming.ack)
        link.subscribe("b", Incoming.ack, qos=0)
        link.start()
        peer = home.accept()
        peer.accept_session()
        assert filters_of(agreed(peer)) == b"\0\1a\1\0\1b\0"
        peer.hang_up()

        peer = refuge.accept()
        peer.accept_session(present=True)
        agreed(peer)
        assert filters_of(peer.receive(UNSUBSCRIBE)) == b"\0\1a"
        assert filters_of(agreed(peer)) == b"\0\1a\1"  # what is read at QoS 0 has no queue
        link.abort()


def test_what_is_to_be_retained_is_sent_again_when_its_acknowledgement_was_late(
    loop: LinkLoop,
) -> None:
    with scripted_broker() as broker:
        link = publisher(loop, broker, others=True, kept_within_s=0)  # each is late
        retained = link.publish("kept", b"1", retain=True)
        passing = link.publish("passing", b"2")
        peer = broker.accept()
        peer.accept_session()
        sent = [acknowledged(peer) for _ in range(11)]  # ten times, then the broker is believed
        retained.wait(PATIENCE_S)
        passing.wait(PATIENCE_S)
        assert sorted(sent) == [("kept", b"1")] * 10 + [("passing", b"2")]
        link.publish("after", b"3")
        assert acknowledged(peer) == ("after", b"3")
        link.abort()


def test_it_is_not_sent_over_a_later_one(loop: LinkLoop) -> None:
    with scripted_broker() as broker:
        link = publisher(loop, broker, others=True, kept_within_s=0)
        earlier = link.publish("kept", b"1", retain=True)
        link.publish("kept", b"2", retain=True)
        peer = broker.accept()
        peer.accept_session()
        packets = [peer.receive(PUBLISH) for _ in range(2)]
        assert [packet.publish[2] for packet in packets] == [b"1", b"2"]
        peer.send(PUBACK, packets[0].publish[1].to_bytes(2, "big"))
        earlier.wait(PATIENCE_S)
        peer.send(PUBACK, packets[1].publish[1].to_bytes(2, "big"))
        assert acknowledged(peer) == ("kept", b"2")
        link.abort()


@pytest.mark.parametrize(("others", "kept_within_s"), [(True, 60.0), (False, 0.0)])
def test_it_is_sent_once_where_that_was_quick_or_the_broker_is_alone(
    loop: LinkLoop, others: bool, kept_within_s: float
) -> None:
    with scripted_broker() as broker:
        link = publisher(loop, broker, others=others, kept_within_s=kept_within_s)
        retained = link.publish("kept", b"1", retain=True)
        peer = broker.accept()
        peer.accept_session()
        assert acknowledged(peer) == ("kept", b"1")
        retained.wait(PATIENCE_S)
        link.publish("after", b"2")
        assert acknowledged(peer) == ("after", b"2")
        link.abort()


def publisher(
    loop: LinkLoop, broker: ScriptedBroker, *, others: bool, kept_within_s: float
) -> Link:
    """A link that is at this broker; with ``others`` it has been told of one more place."""
    address = replace(broker.address, others=(("127.0.0.1", 1),) if others else ())
    at_home = next(name for name in "abcdef" if address.home_of(name) == 0)
    link = Link(loop, address, at_home, backoff=QUICK, kept_within_s=kept_within_s)
    link.start()
    return link


def acknowledged(peer: Peer) -> tuple[str, bytes]:
    """Topic and payload of a PUBLISH, which is answered."""
    topic, packet_id, payload = peer.receive(PUBLISH).publish
    peer.send(PUBACK, packet_id.to_bytes(2, "big"))
    return topic, payload


def agreed(peer: Peer) -> Packet:
    """A SUBSCRIBE, which is answered."""
    request = peer.receive(SUBSCRIBE)
    codes = b"\1" * filters_of(request).count(b"\0\1")
    peer.send(SUBACK, request.packet_id.to_bytes(2, "big") + codes)
    return request


def filters_of(request: Packet) -> bytes:
    return request.body[2:]
