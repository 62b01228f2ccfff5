"""A thousand sessions in one process, on one thread."""

from __future__ import annotations

import functools
import threading

from propeller_fl.errors import LinkError
from propeller_fl.link import Incoming, Link, LinkLoop

from ..support.brokers import RunningBroker
from ..support.wait import wait_until
from .conftest import Connect

COUNT = 1000


def is_up(link: Link) -> bool:
    """Also once a busy broker has agreed to what it refused at first: it is asked again."""
    try:
        link.wait_connected(1)
    except LinkError:
        return False
    return True


def test_thousand_links_receive_one_message_each(broker: RunningBroker, connect: Connect) -> None:
    received: dict[str, list[bytes]] = {}
    with LinkLoop(expected_links=COUNT) as loop:
        threads_before = threading.active_count()
        links = []
        for number in range(COUNT):
            link = Link(loop, broker.address, f"proplet-{number}", clean_session=True)

            def handle(incoming: Incoming, name: str = link.client_id) -> None:
                if not incoming.duplicate:  # a busy machine may be slow to acknowledge
                    received.setdefault(name, []).append(incoming.payload)
                incoming.ack()

            for topic in ("start", "stop", "acks"):  # what a proplet listens to
                link.subscribe(f"{topic}/{link.client_id}", handle)
            link.start()
            links.append(link)
        for link in links:
            wait_until(functools.partial(is_up, link), 60, f"{link.client_id} is up")
        assert threading.active_count() - threads_before <= 8

        manager = connect(broker.address, "manager")
        for link in links:
            manager.publish(f"start/{link.client_id}", link.client_id.encode())
        wait_until(lambda: len(received) == COUNT, 60, "each link has its message")
        assert all(payloads == [name.encode()] for name, payloads in received.items())

        for link in links:
            link.abort()
        wait_until(lambda: not any(link.connected for link in links), 30, "all have hung up")
