"""A member of a pair that finds no database, another's files, or a database that comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator import Coordinator, Turns
from propeller_fl.errors import ConfigError, LinkError
from propeller_fl.link import Link, LinkLoop
from propeller_fl.store import PostgresAddress, RoundStore
from propeller_fl.wire import Topics
from tests.support.brokers import RunningBroker
from tests.support.brokers import nats as nats
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres
from tests.support.wait import wait_until

WAIT_S = 60


@contextmanager
def member(broker: RunningBroker, address: PostgresAddress, files_id: str = "") -> Iterator[Turns]:
    def coordinator(link: Link, store: RoundStore, on_failure: Callable[[], None]) -> Coordinator:
        return Coordinator(link, Topics(), CoordinatorConfig(), store, on_failure=on_failure)

    with LinkLoop() as loop:
        turns = Turns(
            lambda: RoundStore(address),
            lambda: Link(loop, broker.address, "coordinator"),
            coordinator,
            files_id,
        )
        turns.start()
        try:
            yield turns
        finally:
            turns.stop()


def test_a_database_that_is_away_is_waited_for_before_and_afterwards(
    nats: RunningBroker, postgres: PostgresServer
) -> None:
    address = postgres.new_place()
    postgres.stop()
    try:
        with member(nats, address) as turns:
            with pytest.raises(LinkError, match="database"):
                turns.wait_placed(0.1)
            wait_until(lambda: "see that the server runs" in turns.amiss, WAIT_S, "it says why")
            assert (turns.leads, turns.session, turns.failure) == (False, None, None)
            for _ in range(2):
                postgres.start()
                wait_until(lambda: turns.leads, WAIT_S, "it leads")
                turns.wait_placed(WAIT_S)
                session = turns.session
                assert session is not None
                assert session.connected
                assert turns.amiss == ""
                postgres.stop()
                wait_until(lambda: not turns.leads, WAIT_S, "it leads no more")
                wait_until(lambda: turns.amiss, WAIT_S, "it says so")
            assert turns.failure is None
    finally:
        postgres.stop()
        postgres.start()


def test_one_stands_by_while_another_leads_and_leads_when_that_stops(
    nats: RunningBroker, postgres: PostgresServer
) -> None:
    address = postgres.new_place()
    with member(nats, address) as first:
        wait_until(lambda: first.leads, WAIT_S, "the first leads")
        with member(nats, address) as second:
            second.wait_placed(WAIT_S)
            assert (second.leads, second.session, second.amiss) == (False, None, "")
            assert (second.queued, second.count_rounds()) == (0, {})
            first.stop()
            wait_until(lambda: second.leads, WAIT_S, "the second leads")
            assert second.count_rounds() == {"waiting": 0, "open": 0, "aggregating": 0}


def test_one_that_sees_other_files_ends_and_says_why(
    nats: RunningBroker, postgres: PostgresServer
) -> None:
    address = postgres.new_place()
    with member(nats, address, "a directory") as first:
        wait_until(lambda: first.leads, WAIT_S, "the first leads")
        with member(nats, address, "another") as second:
            wait_until(lambda: second.failure, WAIT_S, "the second has ended")
            assert isinstance(second.failure, ConfigError)
            assert "coordinator.files_dir" in str(second.failure)
        assert first.leads
