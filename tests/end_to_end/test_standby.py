"""Two coordinators on one PostgreSQL database: whatever happens to the one that leads, the other
goes on with its rounds, and the models are what they would have been."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from propeller_fl.wire import model_uri
from tests.end_to_end.coordinator_pair import Pair, leads, what_it_is
from tests.faults.processes import PROPLETS, write_data
from tests.faults.rounds import Rounds
from tests.support.brokers import RunningBroker, freeze
from tests.support.brokers import nats as nats
from tests.support.peers import Peer, peer_at
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres
from tests.support.services import Service


@contextmanager
def in_the_middle_of_one(rounds: Rounds, late: Service) -> Iterator[None]:
    """A round that has two updates of three; ``late`` sends the third afterwards, and it must end
    well."""
    freeze(late.pid)
    rounds.start()
    rounds.wait_open(accepted=2)
    yield
    os.kill(late.pid, signal.SIGCONT)
    rounds.wait_complete()


def others(directory: Path, broker: RunningBroker) -> Deployment:
    """Manager and model server, to which nothing happens."""
    flags = {
        "data_dir": str(directory),
        "broker.url": f"mqtt://{broker.address.host}:{broker.address.port}",
        "model_server.models_dir": str(directory / "models"),
        "model_server.http_port": 0,
    }
    return Deployment(config.load(environ={}, flags=flags), Role.MANAGER | Role.MODEL_SERVER)


@pytest.fixture
def peer(nats: RunningBroker) -> Iterator[Peer]:
    with peer_at(nats.address) as peer:
        yield peer


@pytest.mark.timeout(300)
def test_a_pair_loses_nothing_by_kill_lost_connection_or_stop(
    nats: RunningBroker, postgres: PostgresServer, peer: Peer, tmp_path: Path
) -> None:
    database = postgres.new_place()
    write_data(tmp_path / "data", PROPLETS)
    quick = (
        f"proplet.data={tmp_path / 'data'}",
        "proplet.resend_after_s=0.5",
        "proplet.heartbeat_s=1",
    )
    early, late = (
        Service(tmp_path / names[0], nats.address, "proplet", *names, settings=quick)
        for names in (PROPLETS[:2], PROPLETS[2:])
    )
    pair = Pair(tmp_path, nats, database)
    with ExitStack() as stack:
        for service in (pair, early, late):
            stack.callback(service.stop)
        stack.enter_context(others(tmp_path, nats))
        early.start()
        late.start()
        pair.start()
        early.wait_ready()
        late.wait_ready()
        assert [what_it_is(one) for one in pair.members] == ["leader", "standby"]
        assert [leads(one) for one in pair.members] == [True, False]
        rounds = Rounds(tmp_path, peer)
        peer.subscribe("fl/models/publish")

        with in_the_middle_of_one(rounds, late):
            pair.leader.stop(signal.SIGKILL)
            pair.take_turns()
        pair.start_standby()
        assert [what_it_is(one) for one in pair.members] == ["standby", "leader"]

        with in_the_middle_of_one(rounds, late):
            pair.cut_off_the_leader(postgres)
            pair.leader.wait_for("no longer leading")
            pair.wait_whole()

        with in_the_middle_of_one(rounds, late):
            pair.leader.stop(signal.SIGTERM)
            assert pair.leader.wait_end() == 0
            pair.take_turns()
        rounds.judge(lambda sql: postgres.execute(database, sql))

    for number in (1, 2, 3):
        ends = peer.heard(f"fl/rounds/r-{number:04d}/complete")
        assert len(set(ends)) == 1, "said again, perhaps, and the same"
    published = set(peer.heard("fl/models/publish"))
    assert len(published) == 3, f"each of {model_uri(1)} to 3 is made once"
