"""The session packet by packet, against a broker that follows a script."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from propeller_fl.errors import LinkError
from propeller_fl.link import Incoming, Link, LinkLimits, LinkLoop

from ..support.wait import wait_until
from .conftest import QUICK
from .scripted import (
    CONNACK,
    CONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Peer,
    ScriptedBroker,
    scripted_broker,
)

REFUSED = 0x80  # a code of SUBACK


@pytest.fixture
def script() -> Iterator[ScriptedBroker]:
    with scripted_broker() as broker:
        yield broker


def make_link(
    loop: LinkLoop, script: ScriptedBroker, *, connect_timeout_s: float = 10, inflight: int = 256
) -> Link:
    return Link(
        loop,
        script.address,
        "one",
        backoff=QUICK,
        connect_timeout_s=connect_timeout_s,
        limits=LinkLimits(max_inflight=inflight),
    )


def subscribed(script: ScriptedBroker) -> Peer:
    """A connection on which the link has its one subscription."""
    peer = script.accept()
    peer.accept_session()
    request = peer.receive(SUBSCRIBE)
    peer.send(SUBACK, request.packet_id.to_bytes(2, "big") + b"\x01")
    return peer


def hearing(
    loop: LinkLoop, script: ScriptedBroker, topic_filter: str
) -> tuple[Link, Peer, SimpleQueue[Incoming]]:
    """A link that has one subscription, the broker's end of it, and what comes."""
    received: SimpleQueue[Incoming] = SimpleQueue()
    link = make_link(loop, script)
    link.subscribe(topic_filter, received.put)
    link.start()
    return link, subscribed(script), received


def test_refused_subscription(loop: LinkLoop, script: ScriptedBroker) -> None:
    errors: SimpleQueue[LinkError] = SimpleQueue()
    link = make_link(loop, script)
    link.on_error = errors.put
    first = link.subscribe("allowed", Incoming.ack)
    second = link.subscribe("secret/#", Incoming.ack)
    link.start()
    peer = script.accept()
    peer.accept_session()
    request = peer.receive(SUBSCRIBE)
    peer.send(SUBACK, request.packet_id.to_bytes(2, "big") + b"\x01\x80")

    first.wait(5)
    with pytest.raises(LinkError, match="refused 'one' the topics 'secret/#'"):
        second.wait(5)
    assert "secret/#" in str(errors.get(timeout=5))
    with pytest.raises(LinkError, match="secret/#"):
        link.wait_connected(5)
    assert link.connected  # for the rest

    link.unsubscribe("secret/#")
    wait_until(lambda: not raises_link_error(link), 5, "without it all is well")


def test_a_refused_subscription_is_asked_for_again(loop: LinkLoop, script: ScriptedBroker) -> None:
    errors: SimpleQueue[LinkError] = SimpleQueue()
    received: SimpleQueue[Incoming] = SimpleQueue()
    link = make_link(loop, script)
    link.on_error = errors.put
    for topic in ("granted", "busy/a", "busy/b"):
        link.subscribe(topic, received.put)
    link.start()
    peer = script.accept()
    peer.accept_session()
    answer(peer, {"granted": 1, "busy/a": REFUSED, "busy/b": REFUSED})

    answer(peer, {"busy/a": REFUSED, "busy/b": 1})
    answer(peer, {"busy/a": REFUSED})
    answer(peer, {"busy/a": 1})

    wait_until(lambda: not raises_link_error(link), 5, "all is well")
    peer.publish("busy/a", 1, b"")
    assert received.get(timeout=5).topic == "busy/a"
    assert [errors.get(timeout=5) for _ in range(2)]
    assert errors.empty(), "each was reported once"


def test_a_refused_subscription_that_is_given_up_is_not_asked_for_again(
    loop: LinkLoop, script: ScriptedBroker
) -> None:
    def give_up(error: LinkError) -> None:
        link.on_error = None
        link.unsubscribe("left")

    link = make_link(loop, script)
    link.on_error = give_up
    for topic in ("left", "kept"):
        link.subscribe(topic, Incoming.ack)
    link.start()
    peer = script.accept()
    peer.accept_session()
    answer(peer, {"left": REFUSED, "kept": REFUSED})
    peer.receive(UNSUBSCRIBE)
    answer(peer, {"kept": 1})


def answer(peer: Peer, codes: dict[str, int]) -> None:
    """Take a SUBSCRIBE to exactly these filters, and answer it."""
    request = peer.receive(SUBSCRIBE)
    wanted = [len(topic).to_bytes(2, "big") + topic.encode() + b"\x01" for topic in codes]
    assert request.body[2:] == b"".join(wanted)
    peer.send(SUBACK, request.packet_id.to_bytes(2, "big") + bytes(codes.values()))


def raises_link_error(link: Link) -> bool:
    try:
        link.wait_connected(0)
    except LinkError:
        return True
    return False


@pytest.mark.parametrize(
    ("code", "reason"), [(2, "identifier"), (4, "user name or password"), (5, "authorized")]
)
def test_refused_session_is_told_at_once(
    loop: LinkLoop, script: ScriptedBroker, code: int, reason: str
) -> None:
    link = make_link(loop, script)
    link.start()
    peer = script.accept()
    peer.receive(CONNECT)
    peer.send(CONNACK, bytes([0, code]))
    with pytest.raises(LinkError, match=reason):
        link.wait_connected(60)

    script.accept().accept_session()  # it goes on trying, in case the broker is mended
    wait_until(lambda: link.connected, 5, "the second attempt succeeds")
    link.wait_connected(0)


@pytest.mark.parametrize("code", [1, 3])
def test_passing_refusal_is_tried_again(loop: LinkLoop, script: ScriptedBroker, code: int) -> None:
    link = make_link(loop, script)
    link.start()
    peer = script.accept()
    peer.receive(CONNECT)
    peer.send(CONNACK, bytes([0, code]))
    script.accept().accept_session()
    link.wait_connected(5)


def test_no_answer_to_connect(loop: LinkLoop, script: ScriptedBroker) -> None:
    errors: SimpleQueue[LinkError] = SimpleQueue()
    link = make_link(loop, script, connect_timeout_s=0.2)
    link.on_error = errors.put
    link.start()
    peer = script.accept()
    peer.receive(CONNECT)
    assert peer.hung_up()
    assert "did not answer CONNECT" in str(errors.get(timeout=5))
    script.accept().accept_session()
    link.wait_connected(5)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\xff\xff\xff\xff\x01",  # a length that never ends
        b"\x20\x01\x00",  # CONNACK too short
        b"\xf0\x00",
        b"\x30\x03\x00\xff\x00",  # PUBLISH with a topic longer than the packet
        b"\x90\x00",
    ],
)
def test_garbage_costs_the_connection_only(
    loop: LinkLoop, script: ScriptedBroker, garbage: bytes
) -> None:
    link = make_link(loop, script, connect_timeout_s=0.5)
    link.start()
    peer = script.accept()
    peer.receive(CONNECT)
    peer.send_raw(garbage)
    assert peer.hung_up()
    script.accept().accept_session()
    link.wait_connected(5)


def test_topic_that_is_not_text_is_skipped(
    loop: LinkLoop, script: ScriptedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    _, peer, received = hearing(loop, script, "#")
    with caplog.at_level(logging.WARNING):
        peer.send(PUBLISH, b"\x00\x02\xff\xfe\x00\x07", flags=2)
        assert peer.receive(PUBACK).packet_id == 7
    assert "not UTF-8" in caplog.text
    peer.publish("ü", 8, b"")
    assert received.get(timeout=5).topic == "ü"


def test_unanswered_publishes_go_out_again_first(loop: LinkLoop, script: ScriptedBroker) -> None:
    link = make_link(loop, script, inflight=2)
    link.start()
    deliveries = [link.publish("a", b"%d" % number) for number in range(4)]
    peer = script.accept()
    peer.accept_session()
    ids = []
    for payload in (b"0", b"1"):  # no more than may be in flight
        packet = peer.receive(PUBLISH)
        assert packet.publish[2] == payload
        assert not packet.duplicate
        ids.append(packet.publish[1])
    peer.send(PUBACK, ids[0].to_bytes(2, "big"))
    deliveries[0].wait(5)
    assert peer.receive(PUBLISH).publish[2] == b"2"
    peer.hang_up()

    peer = script.accept()
    peer.accept_session(present=True)
    for payload, duplicate in ((b"1", True), (b"2", True)):
        packet = peer.receive(PUBLISH)
        assert (packet.publish[2], packet.duplicate) == (payload, duplicate)
        peer.send(PUBACK, packet.publish[1].to_bytes(2, "big"))
    packet = peer.receive(PUBLISH)
    assert (packet.publish[2], packet.duplicate) == (b"3", False)
    peer.send(PUBACK, packet.publish[1].to_bytes(2, "big"))
    for delivery in deliveries:
        delivery.wait(5)
    assert link.queued == 0


def test_acknowledgement_of_a_past_connection_is_ignored(
    loop: LinkLoop, script: ScriptedBroker
) -> None:
    _, peer, received = hearing(loop, script, "a")
    peer.publish("a", 1, b"first")
    first = received.get(timeout=5)
    peer.hang_up()

    peer = subscribed(script)
    peer.publish("a", 1, b"second")  # the same packet id for another message
    second = received.get(timeout=5)
    first.ack()
    peer.publish("a", 2, b"third")
    received.get(timeout=5).ack()
    assert peer.receive(PUBACK).packet_id == 2  # and not 1
    second.ack()
    assert peer.receive(PUBACK).packet_id == 1


def test_redelivery_on_one_connection_is_acknowledged_once(
    loop: LinkLoop, script: ScriptedBroker
) -> None:
    _, peer, received = hearing(loop, script, "a")
    peer.publish("a", 1, b"slow")
    peer.publish("a", 1, b"slow", duplicate=True)
    deliveries = [received.get(timeout=5) for _ in range(2)]
    assert [d.duplicate for d in deliveries] == [False, True]
    for incoming in deliveries:
        incoming.ack()
    assert peer.receive(PUBACK).packet_id == 1

    peer.publish("a", 1, b"next")  # the id is free again
    following = received.get(timeout=5)
    peer.publish("a", 2, b"last")
    received.get(timeout=5).ack()
    assert peer.receive(PUBACK).packet_id == 2
    following.ack()
    assert peer.receive(PUBACK).packet_id == 1


def test_overlapping_filters_acknowledge_when_all_have(
    loop: LinkLoop, script: ScriptedBroker
) -> None:
    received: SimpleQueue[tuple[str, Incoming]] = SimpleQueue()
    link = make_link(loop, script)
    for topic_filter in ("a/+", "a/#"):
        link.subscribe(topic_filter, lambda i, f=topic_filter: received.put((f, i)))  # type: ignore[misc]
    link.start()
    peer = script.accept()
    peer.accept_session()
    request = peer.receive(SUBSCRIBE)
    peer.send(SUBACK, request.packet_id.to_bytes(2, "big") + b"\x01\x01")
    peer.publish("a/b", 1, b"")
    peer.publish("a", 2, b"")  # matches a/# only
    by_filter = dict(received.get(timeout=5) for _ in range(2))
    assert set(by_filter) == {"a/+", "a/#"}
    by_filter["a/+"].ack()
    by_filter["a/+"].ack()  # does not count twice
    topic_filter, alone = received.get(timeout=5)
    assert topic_filter == "a/#"
    alone.ack()
    assert peer.receive(PUBACK).packet_id == 2
    by_filter["a/#"].ack()
    assert peer.receive(PUBACK).packet_id == 1


def test_unsubscribe_survives_a_reconnect(loop: LinkLoop, script: ScriptedBroker) -> None:
    unsuback = 11
    link, peer, _ = hearing(loop, script, "a")
    delivery = link.unsubscribe("a")
    peer.receive(UNSUBSCRIBE)
    peer.hang_up()

    peer = script.accept()
    peer.accept_session(present=True)
    again = peer.receive(UNSUBSCRIBE)
    assert not delivery.done
    peer.send(unsuback, again.packet_id.to_bytes(2, "big"))
    delivery.wait(5)


def test_large_message_in_small_pieces(loop: LinkLoop, script: ScriptedBroker) -> None:
    _, peer, received = hearing(loop, script, "a")
    body = b"\x00\x01a\x00\x01" + bytes(range(256)) * 1024
    length = bytes([0x80 | len(body) & 127, 0x80 | len(body) >> 7 & 127, len(body) >> 14])
    packet = b"\x32" + length + body
    for start in range(0, len(packet), 997):
        peer.send_raw(packet[start : start + 997])
    assert received.get(timeout=5).payload == body[5:]


@pytest.mark.parametrize("size", [0, 1, 119, 120, 16_380, 70_000, 300_000])
@pytest.mark.parametrize("split", ["head", "middle", "not at all"])
def test_messages_of_any_size_come_whole_however_they_are_cut(
    loop: LinkLoop, script: ScriptedBroker, size: int, split: str
) -> None:
    link, peer, received = hearing(loop, script, "things/#")
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    packets = [published("things/a", 7, payload), published("things/ü", 8, b"x" + payload)]
    stream = b"".join(packets)
    cut = {"head": 1, "middle": len(packets[0]) // 2, "not at all": 0}[split]
    peer.send_raw(stream[:cut])
    if cut:
        delivery = link.publish("still/alive", b"")  # it reads, and does not wait for the rest
        topic, packet_id, _ = peer.receive(PUBLISH).publish
        assert topic == "still/alive"
    peer.send_raw(stream[cut:])

    first, second = (received.get(timeout=30) for _ in range(2))
    assert (first.topic, first.payload) == ("things/a", payload)
    assert (second.topic, second.payload) == ("things/ü", b"x" + payload)
    second.ack()
    assert peer.receive(PUBACK).packet_id == 8
    if cut:
        assert not delivery.done
        peer.send(PUBACK, packet_id.to_bytes(2, "big"))
        delivery.wait(30)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x32\x04\x00\x09ab",  # its topic is longer than the packet
        b"\x32\x03\x00\x01a",  # no room for a packet id
        b"\x36\x05\x00\x01a\x00\x01",  # both bits of QoS
        b"\x32\x04\x00\x00\x00\x01",  # no topic
        b"\x32\xff\xff\xff\xff\x01",  # a length of five bytes
    ],
)
def test_a_message_that_cannot_be_costs_the_connection(
    loop: LinkLoop, script: ScriptedBroker, packet: bytes
) -> None:
    _, peer, received = hearing(loop, script, "#")
    peer.send_raw(published("good", 1, b"before") + packet)
    assert received.get(timeout=30).payload == b"before"
    assert peer.hung_up()
    again = subscribed(script)
    again.send_raw(published("good", 1, b"after"))
    assert received.get(timeout=30).payload == b"after"


def published(topic: str, packet_id: int, payload: bytes) -> bytes:
    """A PUBLISH at QoS 1."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + packet_id.to_bytes(2, "big") + payload
    head = bytearray([PUBLISH << 4 | 2])
    size = len(body)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + body
