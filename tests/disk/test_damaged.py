"""Stores whose bytes are not what was written: refused at the start, fatal in mid-round, and told
in plain words by the doctor. How each kind of damage is found: ``tests/store/test_database.py``."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at
from tests.support.rounds import (
    PROPLETS,
    open_round,
    send_update,
    update_message,
    wait_accepted,
    wait_completed,
)
from tests.support.services import Service, running

from .conftest import Others
from .test_read_only import SERVICES, assert_refused

STORES = ("coordinator/rounds.db", "manager/launches.db")
PAGE = 4096


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(PAGE)
        file.write(os.urandom(path.stat().st_size - PAGE))


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")


def test_damaged_stores_are_refused_at_the_start_and_left_as_they_are(
    nats: RunningBroker, others: Others
) -> None:
    with running(*others(*SERVICES)), peer_at(nats.address) as peer:
        open_round(peer)
        for proplet_id in PROPLETS:
            send_update(peer, proplet_id)
        wait_completed(peer)
    paths = [others.directory / name for name in STORES]
    latest = others.directory / "models" / "global_model_v1.json"
    latest.write_bytes(latest.read_bytes()[:-5])
    for damage, words in (
        (make_newer, ("has schema 99", "use the program that wrote it")),
        (overwrite, ("is damaged", "restore it from a backup")),
    ):
        for path in paths:
            damage(path)
        before = [path.read_bytes() for path in (*paths, latest)]
        coordinator, manager, server = services = others(*SERVICES)
        for service in services:
            service.start()
        assert_refused(coordinator, str(paths[0]), *words)
        assert_refused(manager, str(paths[1]), *words)
        assert_refused(server, "model 1 in", str(latest.parent), "is damaged", "restore it")
        assert [path.read_bytes() for path in (*paths, latest)] == before

    doctor = Service(others.directory, None, "doctor", "--stores-only")
    doctor.start()
    assert doctor.wait_end() == 1, doctor.log
    for name, path in (("coordinator", paths[0]), ("manager", paths[1]), ("models", latest)):
        lines = [line for line in doctor.log.splitlines() if f"{name}: " in line]
        assert len(lines) == 1, doctor.log
        assert lines[0].startswith("error "), lines
        assert f"{path} is damaged" in lines[0]
    assert [path.read_bytes() for path in (*paths, latest)] == before


def test_a_store_that_is_damaged_in_mid_round_stops_the_coordinator(
    nats: RunningBroker, tmp_path: Path, others: Others
) -> None:
    """Updates that are too large for SQLite to have them all in memory are read from the disk."""
    zeros = {"w": [0.0] * 700_000}
    initial = tmp_path / "initial.json"
    initial.write_text(json.dumps(zeros))
    setting = f"model_server.initial_model={initial}"
    server = Service(others.directory, nats.address, "model-server", settings=[setting])
    coordinator, manager = others("coordinator", "manager")
    with running(coordinator, manager, server), peer_at(nats.address) as peer:
        open_round(peer)
        *first, last = PROPLETS
        for proplet_id in first:
            peer.publish(f"fl/rounds/r-1/updates/{proplet_id}", large_update(proplet_id, zeros))
            wait_accepted(peer, proplet_id)
        for path in (others.directory / "coordinator").glob("rounds.db*"):
            if not path.name.endswith("-shm"):
                overwrite(path)
        peer.publish(f"fl/rounds/r-1/updates/{last}", large_update(last, zeros))
        assert coordinator.wait_end() == 1
        assert "the coordinator has stopped" in coordinator.log
        assert f"error: database {others.directory}/coordinator/rounds.db is damaged" in (
            coordinator.log
        )
        assert "restore it from a backup" in coordinator.log
        assert peer.heard("fl/rounds/r-1/complete") == []
        assert peer.heard("fl/models/publish") == []


def large_update(proplet_id: str, tensors: dict[str, list[float]]) -> dict[str, object]:
    return update_message(proplet_id, update=tensors)
