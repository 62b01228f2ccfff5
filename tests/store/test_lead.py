"""Of several coordinators on one PostgreSQL database only one writes, whatever happens to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from propeller_fl.errors import ConfigError, LostLeadError, StoreError
from propeller_fl.rounds import UpdateFacts
from propeller_fl.store import NewUpdate, PostgresAddress, RoundStore, UpdateFiles
from propeller_fl.store._postgres import PostgresDatabase
from tests.support.postgres import PASSWORD, PostgresServer
from tests.support.wait import wait_until

ODD_LOCALE = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0"
END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'propeller-fl coordinator' AND pid IN"
    " (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 'lead'::regclass)"
)


@pytest.fixture
def address(postgres: PostgresServer) -> PostgresAddress:
    return postgres.new_place()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(stack: ExitStack, address: PostgresAddress) -> RoundStore:
    store = RoundStore(address)
    stack.callback(store.close)
    return store


def leading(stack: ExitStack, address: PostgresAddress, name: str = "leader") -> RoundStore:
    """It leads as soon as whoever led before is gone."""
    store = opened(stack, address)
    wait_until(lambda: store.take_lead(name), 30, f"{name} leads")
    return store


def put(store: RoundStore, version: int) -> None:
    with store.transaction():
        store.put_model(f"fl/models/global_model_v{version}", b"{}", "r")


def test_one_leads_and_the_other_reads_until_the_first_is_gone(
    stack: ExitStack, address: PostgresAddress
) -> None:
    first, second = leading(stack, address), opened(stack, address)
    put(first, 1)
    assert not second.take_lead("second")
    assert second.latest_version() == 1
    with pytest.raises(LostLeadError):
        put(second, 2)
    with pytest.raises(StoreError, match="read-only"):
        second.owe("t", b"", retain=False)
    first.close()
    wait_until(lambda: second.take_lead("second"), 30, "the second leads")
    assert second.take_lead("second"), "again is harmless"
    put(second, 2)


def test_who_has_lost_its_connection_writes_no_more(
    stack: ExitStack, postgres: PostgresServer, address: PostgresAddress
) -> None:
    first, second = leading(stack, address), opened(stack, address)
    put(first, 1)

    def lose_it_between_two_statements() -> None:
        with first.transaction():
            first.put_model("fl/models/global_model_v2", b"{}", "r")
            postgres.execute(address, END_SESSIONS)
            first.put_model("fl/models/global_model_v3", b"{}", "r")

    with pytest.raises(LostLeadError):
        lose_it_between_two_statements()
    wait_until(lambda: second.take_lead("second"), 30, "the second leads")
    assert second.latest_version() == 1, "all or nothing"
    put(second, 2)
    for _ in range(2):
        with pytest.raises(LostLeadError):
            put(first, 4)
        with pytest.raises(LostLeadError):
            first.latest_version()
    assert second.latest_version() == 2


def test_a_commit_that_is_not_heard_of_is_not_taken_for_one(
    stack: ExitStack, postgres: PostgresServer, address: PostgresAddress
) -> None:
    first = leading(stack, address)

    def lose_it_before_the_commit() -> None:
        with first.transaction():
            first.put_model("fl/models/global_model_v1", b"{}", "r")
            postgres.execute(address, END_SESSIONS)

    with pytest.raises(LostLeadError):
        lose_it_before_the_commit()
    assert leading(stack, address).latest_version() == -1


def test_a_term_that_is_over_is_found_out_though_the_session_lives(
    stack: ExitStack, postgres: PostgresServer, address: PostgresAddress
) -> None:
    """As behind a pooler, which gives the same session to several."""
    first = leading(stack, address)
    postgres.execute(address, "UPDATE lead SET term = term + 1")
    with pytest.raises(LostLeadError, match="term is 2, and ours was 1"):
        put(first, 1)
    assert first.latest_version() == -1


def test_a_leader_that_hangs_is_none_any_more(stack: ExitStack, address: PostgresAddress) -> None:
    hasty = replace(address, hung_after_s=0.5)

    def led() -> RoundStore | None:
        """On a busy machine it may be taken for hung before it leads."""
        with suppress(StoreError):
            store = opened(stack, hasty)
            return store if store.take_lead("hasty") else None
        return None

    first = wait_until(led, 60, "the hasty one leads")
    assert first is not None
    second = opened(stack, address)
    wait_until(lambda: second.take_lead("second"), 30, "the server has given it up")
    with pytest.raises(LostLeadError):
        put(first, 1)


def test_a_server_that_crashes_takes_the_lead_away_and_no_commit(
    stack: ExitStack, postgres: PostgresServer, address: PostgresAddress
) -> None:
    first = leading(stack, address)
    put(first, 1)
    postgres.stop()
    try:
        with pytest.raises(LostLeadError):
            put(first, 2)
        with pytest.raises(StoreError, match="see that the server runs"):
            RoundStore(address)
    finally:
        postgres.start()
    assert leading(stack, address, "after").latest_version() == 1


def test_a_statement_that_fails_undoes_its_transaction_also_if_nobody_minds(
    stack: ExitStack, address: PostgresAddress
) -> None:
    store = leading(stack, address)
    facts = UpdateFacts("r", "a", "fl/models/global_model_v0", 1, {}, "sha", 1)

    def go_on_after_an_error() -> None:
        with store.transaction():
            store.put_model("fl/models/global_model_v1", b"{}", "r")
            of_no_round = NewUpdate(facts, {}, np.zeros(1, np.float32))
            with pytest.raises(StoreError):
                store.keep_updates([of_no_round], 0.0)

    with pytest.raises(StoreError, match="not committed"):
        go_on_after_an_error()
    put(store, 2)
    assert store.model("fl/models/global_model_v1") is None


def test_the_order_of_updates_does_not_depend_on_the_locale_of_the_database(
    stack: ExitStack, postgres: PostgresServer, address: PostgresAddress
) -> None:
    postgres.execute(address, f"CREATE DATABASE odd {ODD_LOCALE}")
    odd = replace(address, url=address.url.partition("?")[0].replace("/postgres", "/odd"))
    store = leading(stack, odd)
    names = ["b", "a-1", "B", "a.1", "Z"]
    with store.transaction():
        for name in names:
            store.files.put_model(name, "r", b"{}")
    rows = postgres.execute(odd, "SELECT uri FROM model_files ORDER BY uri")
    assert [uri for (uri,) in rows] == sorted(names)


def test_a_database_of_a_later_program_is_refused(
    stack: ExitStack, postgres: PostgresServer, address: PostgresAddress
) -> None:
    opened(stack, address).close()
    postgres.execute(address, "UPDATE lead SET schema_version = 99")
    with pytest.raises(StoreError, match="schema 99"):
        RoundStore(address)


def test_an_older_one_is_brought_up_by_who_leads_and_by_nobody_before(
    stack: ExitStack, address: PostgresAddress
) -> None:
    schema = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT) WITHOUT ROWID"
    migrations = {4: "ALTER TABLE t ADD COLUMN c BLOB NOT NULL DEFAULT ''"}
    old = PostgresDatabase(address, schema, 4)
    stack.callback(old.close)
    new = PostgresDatabase(address, schema, 5, migrations)
    stack.callback(new.close)
    assert old.take_lead("old", "")
    with old.transaction():
        old.execute("INSERT INTO t (b) VALUES (?)", "x")
    old.close()
    wait_until(lambda: new.take_lead("new", ""), 30, "the new program leads")
    assert list(new.rows("SELECT a, b, c FROM t")) == [(1, "x", b"")]
    with pytest.raises(StoreError, match="schema 5"):
        PostgresDatabase(address, schema, 4)


def test_who_does_not_see_the_files_of_the_others_is_refused(
    stack: ExitStack, address: PostgresAddress, tmp_path: Path
) -> None:
    shared, other = (UpdateFiles(tmp_path / name).identity() for name in ("shared", "other"))
    assert UpdateFiles(tmp_path / "shared").identity() == shared != other
    first, second = leading(stack, address), opened(stack, address)
    assert not second.take_lead("second", shared), "nobody has kept files yet"
    first.close()
    wait_until(lambda: second.take_lead("second", shared), 30, "the second leads")
    third = opened(stack, address)
    for files_id in ("", other):
        with pytest.raises(ConfigError, match=r"coordinator\.files_dir is not the directory"):
            third.take_lead("third", files_id)
    assert not third.take_lead("third", shared)


def test_nobody_is_told_the_password(
    address: PostgresAddress, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = tmp_path / "password"
    wrong.write_text("a wrong one\n")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        RoundStore(replace(address, password_file=wrong))
    with closing(RoundStore(address)) as store:
        said = [repr(caught.value), repr(address), str(address), repr(store), caplog.text]
    assert not any("a wrong one" in text or PASSWORD in text for text in said)
