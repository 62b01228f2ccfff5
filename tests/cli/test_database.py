"""Rounds in a PostgreSQL database, as the commands read them, and URLs that are refused."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from propeller_fl import config
from propeller_fl.cli import main
from propeller_fl.errors import ConfigError
from propeller_fl.rounds import Opening, UpdateFacts
from propeller_fl.store import NewUpdate, PostgresAddress, RoundStore
from propeller_fl.wire import RoundStart
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres
from tests.support.wait import wait_until

URI = "fl/models/global_model_v0"
START = RoundStart("r-1", URI, "builtin:linear", ("a", "b"), {}, 2, 60.0)


def run(address: PostgresAddress, directory: Path, *arguments: str) -> Result:
    settings = (
        f"--set=coordinator.database_url={address.url}",
        f"--set=coordinator.database_password_file={address.password_file}",
    )
    return CliRunner().invoke(main, ["--data-dir", str(directory), *settings, *arguments])


def test_rounds_are_read_where_they_are(postgres: PostgresServer, tmp_path: Path) -> None:
    address = postgres.new_place()
    none = run(address, tmp_path, "round", "list")
    assert none.exit_code == 1
    assert "has no rounds yet" in none.output
    assert run(address, tmp_path, "doctor", "--stores-only").exit_code == 1

    with closing(RoundStore(address)) as store:
        early = run(address, tmp_path, "doctor", "--stores-only")
        assert "nobody has led there yet" in early.output
        wait_until(lambda: store.take_lead("a test"), 30, "we lead")
        with store.transaction():
            store.open_round(Opening(START, 1_700_000_000.0, {"w": (3,)}))
            update = UpdateFacts("r-1", "a", URI, 10, {"w": (3,)}, "0" * 64, 100)
            store.keep_updates([NewUpdate(update, {}, np.zeros(3, np.float32))], 1_700_000_001.0)
        listed = run(address, tmp_path, "round", "list", "--json")
        assert [one["start"]["round_id"] for one in json.loads(listed.output)] == ["r-1"]
        assert "1 of 2" in run(address, tmp_path, "round", "show", "r-1").output
        doctor = run(address, tmp_path, "doctor", "--stores-only")
    assert doctor.exit_code == 0, doctor.output
    assert "answers; the last to lead, since 20" in doctor.output
    assert "a test" in doctor.output


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://fl:sesame@127.0.0.1/db", "has a password in it"),
        ("postgresql://fl@127.0.0.1/db?password=sesame", "has a password in it"),
        ("postgresql://fl@db.example/sesame", "beyond this machine"),
        ("postgresql://fl@127.0.0.1,db.example/sesame", "beyond this machine"),
        ("postgresql:///sesame?host=db.example", "beyond this machine"),
        ("sqlite:///sesame", "names no PostgreSQL database"),
        ("host=127.0.0.1 password=sesame", "names no PostgreSQL database"),
        ("postgresql://[sesame/db", "is no URL"),
    ],
)
def test_a_url_that_would_not_do_is_refused_and_not_repeated(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        config.load(environ={}, flags={"coordinator.database_url": url})
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgresql:///db",
        "postgresql://fl@127.0.0.1:5433/db",
        "postgres://fl@[::1]:5432/db",
        "postgresql://fl@localhost/db",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://fl@%2Frun%2Fpostgresql/db",
        "postgresql://fl@one.example,two.example/db?sslmode=verify-full",
    ],
)
def test_one_that_does_is_taken(url: str) -> None:
    settings = config.load(environ={}, flags={"coordinator.database_url": url})
    assert settings.coordinator.database_url == url
