"""A database that somebody else holds, and a service that is started twice."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from tests.support.brokers import RunningBroker, free_port
from tests.support.peers import peer_at
from tests.support.rounds import (
    PROPLETS,
    open_round,
    send_update,
    wait_accepted,
    wait_completed,
)
from tests.support.services import Service, running

from .conftest import Others
from .test_read_only import SERVICES, assert_refused


def lock(path: Path) -> sqlite3.Connection:
    """Hold it as a backup does, or a curious operator."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    return db


def test_a_round_goes_on_when_its_databases_are_free_again(
    nats: RunningBroker, others: Others
) -> None:
    services = others(*SERVICES)
    coordinator, manager, _ = services
    with running(*services), peer_at(nats.address) as peer:
        peer.subscribe("control/manager/start")
        open_round(peer)
        *first, last = PROPLETS
        for proplet_id in first:
            send_update(peer, proplet_id)
            wait_accepted(peer, proplet_id)
        with (
            contextlib.closing(lock(others.directory / "coordinator" / "rounds.db")),
            contextlib.closing(lock(others.directory / "manager" / "launches.db")),
        ):
            send_update(peer, last)
            peer.publish("control/proplet/create", {"proplet_id": last})
            for service in (coordinator, manager):
                service.wait_for("another process holds it: is the same service running twice?")
            assert peer.heard(f"fl/rounds/r-1/acks/{last}") == []
            assert peer.heard("control/manager/start") == []
        wait_accepted(peer, last)
        wait_completed(peer)


def test_a_second_one_is_refused(nats: RunningBroker, others: Others) -> None:
    port = f"broker.port={free_port()}"
    brokers = [Service(others.directory, None, "broker", settings=[port]) for _ in range(2)]
    with running(brokers[0], *others(*SERVICES)):
        seconds = [brokers[1], *others(*SERVICES)]
        for second in seconds:
            second.start()
        for second in seconds:
            name = SERVICES.get(second.name, second.name)
            assert_refused(second, f"{others.directory}/{name}", "another", "stop ")
