"""Directories that cannot be written: said at the start, by name; waited for in mid-round."""

from __future__ import annotations

import pytest

from tests.support.brokers import RunningBroker, free_port
from tests.support.peers import peer_at
from tests.support.rounds import PROPLETS, open_round, send_update, wait_completed
from tests.support.services import Service, running
from tests.support.small_disk import SmallDisk

from .conftest import Others

SERVICES = {"coordinator": "coordinator", "manager": "manager", "model-server": "models"}


def assert_refused(service: Service, *words: str) -> None:
    """It has ended by itself, in one line that a user can act on."""
    status = service.wait_end()
    assert status == 1, service.log
    [line] = service.log.splitlines()
    assert line.startswith("error: "), line
    for word in words:
        assert word in line


@pytest.mark.parametrize("used_before", [False, True])
def test_a_service_does_not_start_on_a_read_only_disk(
    nats: RunningBroker, disk: SmallDisk, used_before: bool
) -> None:
    state = disk.path / "state"
    services = {name: Service(state, nats.address, name, inside=disk.inside) for name in SERVICES}
    port = f"broker.port={free_port()}"
    broker = Service(state, None, "broker", inside=disk.inside, settings=[port])
    if used_before:
        with running(broker, *services.values()):
            pass
        for service in (broker, *services.values()):
            service.forget_log()
    else:
        (disk.seen / "state").mkdir()
    disk.cover_read_only(state)
    for service in (broker, *services.values()):
        service.start()
    for name, service in services.items():
        assert_refused(service, f"{state}/{SERVICES[name]}", "mounted read-only")
    assert_refused(broker, f"{state}/broker", "mounted read-only")

    if used_before:  # what only reads still does
        lister = Service(state, None, "round", "list", inside=disk.inside)
        doctor = Service(state, None, "doctor", "--stores-only", inside=disk.inside)
        lister.start()
        doctor.start()
        assert lister.wait_end() == 0, lister.log
        assert doctor.wait_end() == 0, doctor.log
        assert doctor.log.count("is sound") == 3, doctor.log


def test_a_service_does_not_start_where_a_file_is_in_the_way(
    nats: RunningBroker, others: Others
) -> None:
    services = others(*SERVICES)
    state = others.directory
    state.write_text("not a directory")
    for service in services:
        service.start()
    for service in services:
        assert_refused(service, f"{state}/{SERVICES[service.name]}", "a file is in the way")


def test_a_model_waits_until_its_directory_can_be_written(
    nats: RunningBroker, disk: SmallDisk, others: Others
) -> None:
    """Of the databases the same is shown by a limit on writes, in ``test_full.py``: a disk on
    which a file is open for writing cannot be remounted."""
    server = Service(disk.path, nats.address, "model-server", inside=disk.inside)
    with running(server, *others("coordinator", "manager")), peer_at(nats.address) as peer:
        open_round(peer)
        disk.cover_read_only(disk.path / "models")
        for proplet_id in PROPLETS:
            send_update(peer, proplet_id)
        server.wait_for("model 1 not stored, trying again")
        assert f"{disk.path}/models/global_model_v1.json cannot be written" in server.log
        assert "the disk is mounted read-only" in server.log
        disk.uncover(disk.path / "models")
        wait_completed(peer)
