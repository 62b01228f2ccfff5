"""A disk is full in the middle of a round: nobody invents anything, and with room it goes on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from propeller_fl.link import BrokerAddress, Incoming, Link, LinkLoop
from tests.support.brokers import RunningBroker, free_port
from tests.support.peers import Peer, peer_at
from tests.support.rounds import (
    PROPLETS,
    open_round,
    send_update,
    update_message,
    wait_accepted,
    wait_completed,
)
from tests.support.services import Service, running
from tests.support.small_disk import SmallDisk
from tests.support.wait import wait_until

from .conftest import FillableDisk, Others


def test_an_update_waits_for_room(
    nats: RunningBroker, fillable: FillableDisk, others: Others
) -> None:
    coordinator = Service(fillable.directory, nats.address, "coordinator", inside=fillable.inside)
    with running(coordinator, *others("manager", "model-server")), peer_at(nats.address) as peer:
        open_round(peer)
        *first, last = PROPLETS
        for proplet_id in first:
            send_update(peer, proplet_id)
            wait_accepted(peer, proplet_id)
        fillable.fill(coordinator)
        send_update(peer, last)
        coordinator.wait_for("the store failed")
        assert f"database {fillable.directory}/coordinator/rounds.db" in coordinator.log
        assert fillable.error in coordinator.log
        assert peer.heard(f"fl/rounds/r-1/acks/{last}") == []
        assert peer.heard("fl/rounds/r-1/complete") == []

        fillable.free(coordinator)
        wait_accepted(peer, last)
        wait_completed(peer)
        assert coordinator.running


def test_a_task_waits_for_room(nats: RunningBroker, disk: SmallDisk, others: Others) -> None:
    manager = Service(disk.path, nats.address, "manager", inside=disk.inside)
    with running(manager, *others("coordinator", "model-server")), peer_at(nats.address) as peer:
        peer.subscribe("control/manager/start")
        open_round(peer)
        disk.fill()
        peer.publish("control/proplet/create", {"proplet_id": "proplet-1"})
        manager.wait_for("the store failed")
        assert f"database {disk.path}/manager/launches.db" in manager.log
        assert "the disk is full: free some space, nothing was lost" in manager.log
        assert peer.heard("control/manager/start") == []
        for proplet_id in PROPLETS:
            send_update(peer, proplet_id)  # updates need no room: they pass meanwhile
        wait_completed(peer)

        disk.free()
        manager.wait_for("the store works again")
        open_round(peer, "r-2")
        task = peer.wait_for("control/manager/start", lambda t: t["name"] == "r-2", timeout_s=30)
        assert task["proplet_id"] == "proplet-1"


def test_a_model_waits_for_room(
    nats: RunningBroker, fillable: FillableDisk, others: Others
) -> None:
    server = Service(fillable.directory, nats.address, "model-server", inside=fillable.inside)
    with running(server, *others("coordinator", "manager")), peer_at(nats.address) as peer:
        open_round(peer)
        fillable.fill(server)
        for proplet_id in PROPLETS:
            send_update(peer, proplet_id)
        server.wait_for("model 1 not stored, trying again")
        assert f"{fillable.directory}/models/global_model_v1.json cannot be written" in server.log
        assert "nothing was lost" in server.log
        assert peer.heard("fl/models/global_model_v1") == []

        fillable.free(server)
        wait_completed(peer)


def test_an_embedded_broker_stores_again_once_there_is_room(disk: SmallDisk) -> None:
    """nats-server itself does not: a stream whose write has failed takes nothing any more."""
    address = BrokerAddress("127.0.0.1", free_port())
    broker = Service(
        disk.path, None, "broker", inside=disk.inside, settings=[f"broker.port={address.port}"]
    )
    received: set[bytes] = set()
    with running(broker), LinkLoop() as loop:

        def keep(incoming: Incoming) -> None:
            received.add(incoming.payload)
            incoming.ack()

        def new_session(client_id: str) -> Link:
            link = Link(loop, address, client_id)
            link.subscribe("a/b", keep)
            link.start()
            link.wait_connected(30)
            return link

        new_session("away").close()
        publisher = new_session("publisher")
        publisher.unsubscribe("a/b").wait(10)
        disk.fill()
        # more than the page that was begun has room for
        sent = [b"%d " % number + bytes(4000) for number in range(50)]
        deliveries = [publisher.publish("a/b", payload) for payload in sent]
        broker.wait_for("the embedded broker stores nothing")
        assert "no space left on device" in broker.log
        disk.free()
        for delivery in deliveries:
            delivery.wait(60)
        new_session("away")
        wait_until(lambda: received >= set(sent), 30, "every message that was sent has arrived")


def test_a_whole_deployment_on_a_full_disk(disk: SmallDisk) -> None:
    port = free_port()
    settings = [f"broker.port={port}"]
    up = Service(disk.path, None, "up", inside=disk.inside, settings=settings)
    with running(up), peer_at(BrokerAddress("127.0.0.1", port)) as peer:
        up.wait_for("ready: proplet-1")
        peer.subscribe("fml/updates")
        open_round(peer, participants=[*PROPLETS, "late"], k_of_n=4)
        for proplet_id in PROPLETS:
            wait_accepted(peer, proplet_id)
        disk.fill()
        peer.send("fl/rounds/r-1/updates/late", update_message("late"))
        up.wait_for("free some space")
        disk.free()
        updates = wait_until(lambda: by_proplet(peer), 60, "the late update is forwarded")
        weights = [update["num_samples"] for update in updates.values()]
        expected = np.average(
            [update["update"]["w"] for update in updates.values()], axis=0, weights=weights
        )
        model = peer.wait_for("fl/models/global_model_v1", timeout_s=60)
        np.testing.assert_allclose(model["w"], expected, rtol=1e-6)
        assert peer.wait_for("fl/rounds/r-1/complete")["num_updates"] == 4
        assert up.running
        doctor = Service(disk.path, None, "doctor", "--stores-only", inside=disk.inside)
        doctor.start()
        assert doctor.wait_end() == 0, doctor.log
        assert "rounds.db is sound: 1 rounds, 4 updates" in doctor.log


def by_proplet(peer: Peer) -> dict[str, Any]:
    """The updates of all four, once they have been forwarded."""
    updates = {u["proplet_id"]: u for u in map(json.loads, peer.heard("fml/updates"))}
    return updates if len(updates) == 4 else {}
