"""A session when a process dies, on either side or in the middle: nothing acknowledged is lost,
nothing unacknowledged is forgotten."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from propeller_fl.errors import LinkError
from propeller_fl.link import Incoming, Link, LinkLoop, Will

from ..support.brokers import RunningBroker, freeze
from ..support.wait import wait_until
from .conftest import Connect

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def session_process(
    broker: RunningBroker, client_id: str, keepalive_s: int = 30
) -> Iterator[subprocess.Popen[str]]:
    arguments = [broker.address.host, str(broker.address.port), client_id, str(keepalive_s)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.link.session_process", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_will_when_the_process_is_killed(broker: RunningBroker, connect: Connect) -> None:
    wills: SimpleQueue[bytes] = SimpleQueue()
    connect(broker.address, "watcher").subscribe("wills/+", lambda i: wills.put(i.payload)).wait(5)
    with session_process(broker, "child") as process:
        process.kill()
        assert wills.get(timeout=5) == b"gone"
    late: SimpleQueue[Incoming] = SimpleQueue()
    connect(broker.address, "late").subscribe("wills/child", late.put).wait(5)
    assert late.get(timeout=5).retained


def test_will_when_the_process_is_silent(broker: RunningBroker, connect: Connect) -> None:
    wills: SimpleQueue[bytes] = SimpleQueue()
    connect(broker.address, "watcher").subscribe("wills/+", lambda i: wills.put(i.payload)).wait(5)
    with session_process(broker, "child", keepalive_s=2) as process:
        freeze(process.pid)
        assert wills.get(timeout=15) == b"gone"


def test_will_on_abort_and_none_on_close(broker: RunningBroker, connect: Connect) -> None:
    wills: SimpleQueue[bytes] = SimpleQueue()
    connect(broker.address, "watcher").subscribe("wills", lambda i: wills.put(i.payload)).wait(5)
    connect(broker.address, "polite", will=Will("wills", b"polite")).close()
    connect(broker.address, "rude", will=Will("wills", b"rude")).abort()
    assert wills.get(timeout=5) == b"rude"


def test_unacknowledged_message_outlives_the_process(
    broker: RunningBroker, connect: Connect, loop: LinkLoop
) -> None:
    with session_process(broker, "child") as process:
        assert process.stdout is not None
        connect(broker.address, "sender").publish("work/child", b"task").wait(5)
        assert process.stdout.readline() == "task\n"

    received: SimpleQueue[Incoming] = SimpleQueue()
    heir = Link(loop, broker.address, "child")
    heir.subscribe("work/child", received.put)  # first, as the broker does not wait for us
    heir.start()
    incoming = received.get(timeout=5)
    assert incoming.payload == b"task"
    assert incoming.duplicate
    incoming.ack()
    heir.close()

    heir = Link(loop, broker.address, "child")
    heir.subscribe("work/child", received.put)
    heir.start()
    connect(broker.address, "other").publish("work/child", b"next")
    assert received.get(timeout=5).payload == b"next"


def test_messages_wait_for_a_session_that_is_away(
    broker: RunningBroker, connect: Connect, loop: LinkLoop
) -> None:
    count = 1100  # more than a stock mosquitto would keep
    connect_first = connect(broker.address, "away")
    connect_first.subscribe("a", Incoming.ack).wait(5)
    connect_first.close()
    sender = connect(broker.address, "sender")
    deliveries = [sender.publish("a", b"%d" % number) for number in range(count)]
    for delivery in deliveries:
        delivery.wait(20)

    received: list[int] = []

    def handle(incoming: Incoming) -> None:
        received.append(int(incoming.payload))
        incoming.ack()

    back = Link(loop, broker.address, "away")
    back.subscribe("a", handle)
    back.start()
    wait_until(lambda: len(received) >= count, 20, "everything that waited came")
    assert received == list(range(count))


def test_broker_killed_and_restarted(broker: RunningBroker, connect: Connect) -> None:
    events: SimpleQueue[str] = SimpleQueue()
    received: list[bytes] = []

    def handle(incoming: Incoming) -> None:
        received.append(incoming.payload)
        incoming.ack()

    sender = connect(broker.address, "sender")
    receiver = connect(broker.address, "receiver")
    receiver.on_down = lambda error: events.put(f"down: {error}")
    receiver.on_up = lambda session_present: events.put(f"up: {session_present}")
    receiver.subscribe("a", handle).wait(5)
    sender.publish("a", b"before").wait(5)
    sender.publish("kept", b"kept", retain=True).wait(5)
    wait_until(lambda: received, 5, "the first message came")

    broker.kill()
    assert events.get(timeout=5).startswith(f"down: the connection to {broker.address} ended")
    deliveries = [sender.publish("a", b"%d" % number) for number in range(20)]
    with pytest.raises(LinkError, match="no answer from the broker within"):
        deliveries[0].wait(0.05)
    broker.start()

    for delivery in deliveries:
        delivery.wait(10)
    assert events.get(timeout=10) == "up: True"
    expected = [b"%d" % number for number in range(20)]
    wait_until(lambda: set(expected) <= set(received), 10, "the queued messages came")
    # Again and in order: the subscription was renewed, and messages may come twice but not late.
    assert [p for i, p in enumerate(received) if p not in received[:i]] == [b"before", *expected]
    retained: SimpleQueue[Incoming] = SimpleQueue()
    receiver.subscribe("kept", retained.put)
    assert retained.get(timeout=5).payload == b"kept"


def test_publish_the_broker_never_answered_is_sent_again(
    broker: RunningBroker, connect: Connect
) -> None:
    received: list[bytes] = []

    def handle(incoming: Incoming) -> None:
        received.append(incoming.payload)
        incoming.ack()

    sender = connect(broker.address, "sender")
    connect(broker.address, "receiver").subscribe("a", handle).wait(5)
    sender.publish("a", b"before").wait(5)
    wait_until(lambda: received, 5, "the first message came")
    freeze(broker.pid)  # what is sent now reaches its socket, not the broker
    deliveries = [sender.publish("a", b"%d" % number) for number in range(50)]
    with pytest.raises(LinkError):
        deliveries[0].wait(0.2)
    broker.kill()
    broker.start()
    for delivery in deliveries:
        delivery.wait(10)
    wait_until(lambda: len(set(received)) == 51, 10, "all of them came")


def test_silent_broker_is_noticed(broker: RunningBroker, connect: Connect) -> None:
    downs: SimpleQueue[LinkError] = SimpleQueue()
    link = connect(broker.address, "one", keepalive_s=2)
    link.on_down = downs.put
    freeze(broker.pid)
    try:
        assert "nothing heard" in str(downs.get(timeout=10))
        delivery = link.publish("a", b"")
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    delivery.wait(20)


def test_idle_session_stays_up(broker: RunningBroker, connect: Connect, loop: LinkLoop) -> None:
    downs: list[LinkError] = []
    passed = threading.Event()
    link = connect(broker.address, "idle", keepalive_s=2)
    link.on_down = downs.append
    loop.call_later(4.0, passed.set)  # a broker hangs up after 3 s without a ping
    assert passed.wait(15)
    assert link.connected
    assert not downs
