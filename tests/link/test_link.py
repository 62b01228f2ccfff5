"""One session on a broker that behaves: what comes and goes, and in which order."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

import pytest

from propeller_fl.errors import ConfigError, LinkError, MessageError
from propeller_fl.link import Delivery, Incoming, Link, LinkLimits, LinkLoop, Will

from ..support.brokers import RunningBroker
from ..support.wait import wait_until
from .conftest import QUICK, Connect


def test_round_trip(broker: RunningBroker, connect: Connect) -> None:
    received: SimpleQueue[Incoming] = SimpleQueue()
    link = connect(broker.address, "one")
    link.subscribe("fl/rounds/+/updates/+", received.put).wait(5)

    link.publish("fl/rounds/r-1/updates/p.1", b"\x00\xff" * 3).wait(5)

    incoming = received.get(timeout=5)
    incoming.ack()
    assert incoming.topic == "fl/rounds/r-1/updates/p.1"
    assert incoming.payload == b"\x00\xff" * 3
    assert not incoming.retained
    assert not incoming.duplicate


def test_delivery_callback_and_result(nats: RunningBroker, connect: Connect) -> None:
    called: SimpleQueue[Delivery] = SimpleQueue()
    delivery = connect(nats.address, "one").publish("a", b"")
    delivery.add_done_callback(called.put)
    assert called.get(timeout=5) is delivery
    delivery.add_done_callback(called.put)  # done already: at once
    assert called.get(timeout=0) is delivery
    assert delivery.done
    assert delivery.error is None


def test_retained_message_waits_for_subscribers(broker: RunningBroker, connect: Connect) -> None:
    received: SimpleQueue[Incoming] = SimpleQueue()
    publisher = connect(broker.address, "publisher")
    publisher.publish("fl/models/global_model_v3", b"model", retain=True).wait(5)
    publisher.publish("fl/models/other", b"model").wait(5)

    connect(broker.address, "late").subscribe("fl/models/+", received.put).wait(5)

    incoming = received.get(timeout=5)
    incoming.ack()
    assert (incoming.topic, incoming.payload, incoming.retained) == (
        "fl/models/global_model_v3",
        b"model",
        True,
    )


def test_empty_retained_message_clears(broker: RunningBroker, connect: Connect) -> None:
    topics: SimpleQueue[str] = SimpleQueue()
    publisher = connect(broker.address, "publisher")
    for topic in ("a/1", "a/2"):
        publisher.publish(topic, b"x", retain=True).wait(5)
    publisher.publish("a/1", b"", retain=True).wait(5)

    connect(broker.address, "late").subscribe("a/+", lambda i: topics.put(i.topic)).wait(5)

    assert topics.get(timeout=5) == "a/2"
    assert topics.empty()


def test_order_is_kept_per_topic(broker: RunningBroker, connect: Connect) -> None:
    count = 500
    received: list[int] = []

    def handle(incoming: Incoming) -> None:
        if not incoming.duplicate:  # a busy machine may be slow to acknowledge
            received.append(int(incoming.payload))
        incoming.ack()

    connect(broker.address, "receiver").subscribe("a/b", handle).wait(5)
    sender = connect(broker.address, "sender")
    for number in range(count):
        sender.publish("a/b", b"%d" % number)

    wait_until(lambda: len(received) >= count, 20, "all messages are there")
    assert received == list(range(count))


def test_what_is_said_once_comes_whole_and_in_order(
    broker: RunningBroker, connect: Connect
) -> None:
    sizes = (0, 1, 120, 127, 128, 16_380, 16_384, 70_000)  # a length takes one to three bytes
    said = [(f"é/{size}", bytes([size % 251]) * size) for size in sizes]
    heard: list[tuple[str, bytes]] = []

    def handle(incoming: Incoming) -> None:
        heard.append((incoming.topic, incoming.payload))
        incoming.ack()

    connect(broker.address, "receiver").subscribe("é/+", handle).wait(5)
    sender = connect(broker.address, "sender")
    sender.say(said)
    wait_until(lambda: len(heard) >= len(said), 20, "all messages are there")
    assert heard == said


def test_what_is_said_without_a_connection_is_dropped(nats: RunningBroker, loop: LinkLoop) -> None:
    heard: SimpleQueue[bytes] = SimpleQueue()
    link = Link(loop, nats.address, "one", backoff=QUICK)
    link.subscribe("a", lambda incoming: heard.put(incoming.payload))
    link.say([("a", b"too early")])
    link.start()
    link.wait_connected(10)
    link.say([("a", b"in time")])
    assert heard.get(timeout=20) == b"in time"
    with pytest.raises(MessageError):
        link.say([("a/+", b"")])
    with pytest.raises(MessageError, match="over the limit"):
        link.say([("a", bytes(LinkLimits().max_payload_bytes + 1))])
    link.close()
    with pytest.raises(LinkError):
        link.say([("a", b"too late")])


def test_publish_from_a_handler(broker: RunningBroker, connect: Connect) -> None:
    answers: SimpleQueue[bytes] = SimpleQueue()
    link = connect(broker.address, "one")

    def answer(incoming: Incoming) -> None:
        link.publish("answer", incoming.payload + b"!")
        incoming.ack()

    link.subscribe("question", answer).wait(5)
    link.subscribe("answer", lambda i: answers.put(i.payload)).wait(5)
    link.publish("question", b"who")
    assert answers.get(timeout=5) == b"who!"


def test_acknowledged_from_another_thread(broker: RunningBroker, connect: Connect) -> None:
    work: SimpleQueue[Incoming] = SimpleQueue()
    seen: set[bytes] = set()  # a busy machine may be slow to acknowledge: they come again then
    count = 600  # more than either broker sends ahead of acknowledgements

    def worker() -> None:
        while len(seen) < count:
            incoming = work.get()
            seen.add(incoming.payload)
            incoming.ack()
            incoming.ack()  # harmless

    thread = threading.Thread(target=worker, daemon=True)
    thread.start()
    connect(broker.address, "receiver").subscribe("a", work.put).wait(5)
    sender = connect(broker.address, "sender")
    for number in range(count):
        sender.publish("a", b"%d" % number)
    thread.join(60)
    assert len(seen) == count


def test_unsubscribe(broker: RunningBroker, connect: Connect) -> None:
    topics: SimpleQueue[str] = SimpleQueue()

    def handle(incoming: Incoming) -> None:
        topics.put(incoming.topic)
        incoming.ack()

    link = connect(broker.address, "one")
    link.subscribe("a", handle).wait(5)
    link.subscribe("b", handle).wait(5)
    link.unsubscribe("a").wait(5)
    link.publish("a", b"").wait(5)
    link.publish("b", b"").wait(5)
    assert topics.get(timeout=5) == "b"


def test_failing_handler_does_not_block_the_session(
    broker: RunningBroker, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    payloads: list[bytes] = []

    def handle(incoming: Incoming) -> None:
        payloads.append(incoming.payload)
        if incoming.payload == b"poison":
            raise ValueError("bad message")
        incoming.ack()

    link = connect(broker.address, "receiver")
    link.subscribe("a", handle).wait(5)
    with caplog.at_level(logging.ERROR):
        link.publish("a", b"poison")
        link.publish("a", b"fine")
        wait_until(lambda: b"fine" in payloads, 5, "the next message came through")
    assert "'a' failed on a message" in caplog.text
    link.close()

    payloads.clear()  # the poison was acknowledged: it does not come again
    again = connect(broker.address, "receiver")
    again.subscribe("a", handle).wait(5)
    again.publish("a", b"end")
    wait_until(lambda: b"end" in payloads, 5, "the last message came")
    assert payloads == [b"end"]


def test_message_that_nothing_handles_is_reported(
    broker: RunningBroker, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    first = connect(broker.address, "receiver")
    first.subscribe("old/topic", lambda incoming: incoming.ack()).wait(5)
    first.close()
    with caplog.at_level(logging.INFO, "propeller_fl"):
        connect(broker.address, "sender").publish("old/topic", b"").wait(5)
        connect(broker.address, "receiver")
        wait_until(lambda: "nothing handles 'old/topic'" in caplog.text, 5, "it is logged")


def test_payload_at_the_limit_passes(broker: RunningBroker, connect: Connect) -> None:
    size_bytes = 8 * 1024 * 1024
    sizes: SimpleQueue[int] = SimpleQueue()
    link = connect(broker.address, "one")

    def handle(incoming: Incoming) -> None:
        sizes.put(len(incoming.payload))
        incoming.ack()

    link.subscribe("big/+", handle).wait(5)
    link.publish("big/" + "x" * 300, b"\x01" * size_bytes, retain=True).wait(10)
    assert sizes.get(timeout=10) == size_bytes


def test_payload_over_the_limit_is_refused(nats: RunningBroker, connect: Connect) -> None:
    link = connect(nats.address, "one", limits=LinkLimits(max_payload_bytes=1000))
    link.publish("a", b"x" * 1000).wait(5)
    with pytest.raises(MessageError, match="1001 bytes for 'a' are over the limit") as caught:
        link.publish("a", b"x" * 1001)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("topic", ["", "a b", "a/+", "a/#", "a\n", "a\0", "x" * 65_536])
def test_bad_topic_is_refused(loop: LinkLoop, nats: RunningBroker, topic: str) -> None:
    link = Link(loop, nats.address, "one")
    with pytest.raises(MessageError) as caught:
        link.publish(topic, b"")
    assert caught.value.field == "topic"


@pytest.mark.parametrize("topic_filter", ["", "a b", "a+", "a/#/b", "a/b#"])
def test_bad_filter_is_refused(loop: LinkLoop, nats: RunningBroker, topic_filter: str) -> None:
    with pytest.raises(MessageError):
        Link(loop, nats.address, "one").subscribe(topic_filter, Incoming.ack)


def test_full_queue_is_an_error(loop: LinkLoop, nats: RunningBroker) -> None:
    link = Link(loop, nats.address, "one", limits=LinkLimits(max_queued=3, max_queued_bytes=10))
    deliveries = [link.publish("a", b"xxxx") for _ in range(2)]
    with pytest.raises(LinkError, match="queue of 'one' is full: 2 messages, 8 bytes"):
        link.publish("a", b"xxxx")
    deliveries.append(link.publish("a", b"xx"))
    with pytest.raises(LinkError, match="is full"):
        link.publish("a", b"")
    assert link.queued == 3

    link.start()
    for delivery in deliveries:
        delivery.wait(5)
    assert link.queued == 0
    link.publish("a", b"xxxx").wait(5)


def test_close_sends_what_is_queued(broker: RunningBroker, connect: Connect) -> None:
    link = connect(broker.address, "one")
    deliveries = [link.publish("a", b"x" * 1000) for _ in range(500)]
    link.close(timeout_s=10)
    assert all(d.done and d.error is None for d in deliveries)
    with pytest.raises(LinkError, match="closed"):
        link.publish("a", b"")
    link.close()  # again is harmless


def test_close_without_broker_fails_what_is_queued(loop: LinkLoop, nats: RunningBroker) -> None:
    nats.stop()
    link = Link(loop, nats.address, "one", backoff=QUICK)
    link.start()
    delivery = link.publish("a", b"")
    subscribed = link.subscribe("a", Incoming.ack)
    link.close()
    with pytest.raises(LinkError, match="closed before"):
        delivery.wait(0)
    with pytest.raises(LinkError, match="closed before"):
        subscribed.wait(5)


def test_unreachable_broker_is_named(loop: LinkLoop, nats: RunningBroker) -> None:
    nats.stop()
    errors: SimpleQueue[LinkError] = SimpleQueue()
    link = Link(loop, nats.address, "one", backoff=QUICK)
    link.on_error = errors.put
    link.start()
    assert "is a broker running there?" in str(errors.get(timeout=5))
    with pytest.raises(LinkError, match=f"not connected within .* {nats.address}.*refused"):
        link.wait_connected(0.1)


def test_stopping_the_loop_aborts_links(nats: RunningBroker) -> None:
    loop = LinkLoop()
    link = Link(loop, nats.address, "one")
    link.start()
    loop.start()  # a link may be started first
    link.wait_connected(5)
    loop.stop()
    loop.stop()  # again is harmless
    assert not link.connected
    with pytest.raises(LinkError):
        link.publish("a", b"")
    with pytest.raises(LinkError, match="stopped"):
        loop.call_soon(lambda: None)


def test_link_that_was_never_started_ends_with_its_loop(nats: RunningBroker) -> None:
    loop = LinkLoop()
    link = Link(loop, nats.address, "one")
    delivery = link.publish("a", b"")
    loop.stop()
    link.close()
    with pytest.raises(LinkError, match="closed before"):
        delivery.wait(0)
    with pytest.raises(LinkError, match="stopped"):
        Link(loop, nats.address, "two")


def test_session_that_cannot_be_made(loop: LinkLoop, nats: RunningBroker) -> None:
    with pytest.raises(ConfigError, match="keepalive of 1 s"):
        Link(loop, nats.address, "one", keepalive_s=1)
    with pytest.raises(ConfigError, match="client id"):
        Link(loop, nats.address, "")
    with pytest.raises(MessageError, match="topic 'a b'"):
        Will("a b", b"")
    with pytest.raises(ConfigError, match="will of 65536 bytes"):
        Will("a", b"x" * 65_536)
    with pytest.raises(ConfigError, match="max_payload_bytes is"):
        LinkLimits(max_payload_bytes=1 << 28)


def test_blocking_calls_are_refused_on_the_loop(
    loop: LinkLoop, connect: Connect, nats: RunningBroker
) -> None:
    raised: SimpleQueue[str] = SimpleQueue()
    link = connect(nats.address, "one")

    def close() -> None:
        for call in (link.close, loop.stop):
            try:
                call()
            except RuntimeError as error:
                raised.put(str(error))

    loop.call_soon(close)
    assert "Link.close" in raised.get(timeout=5)
    assert "own thread" in raised.get(timeout=5)
