"""The places a coordinator's rounds may be kept in: what a test may do to each of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from propeller_fl.store import PostgresAddress, RoundStore
from tests.support.postgres import PostgresServer
from tests.support.wait import wait_until


class FilePlace:
    """A file of SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def open(self) -> Iterator[RoundStore]:
        """As a coordinator does that may write, on what is there."""
        with closing(RoundStore(self._path)) as store:
            assert store.take_lead("a test")
            yield store

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Past the store."""
        with closing(sqlite3.connect(self._path)) as db, db:
            return db.execute(statement).fetchall()


class ServerPlace:
    """A database of a PostgreSQL server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.address: PostgresAddress = server.new_place()

    @contextmanager
    def open(self) -> Iterator[RoundStore]:
        """As a coordinator does that leads, once the server has ended the session before."""
        with closing(RoundStore(self.address)) as store:
            wait_until(lambda: store.take_lead("a test"), 30, "we may lead")
            yield store

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Past the store."""
        return self._server.execute(self.address, statement)


Place = FilePlace | ServerPlace


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each of them in turn, empty."""
    if request.param == "sqlite":
        return FilePlace(tmp_path / "coordinator" / "rounds.db")
    return ServerPlace(request.getfixturevalue("postgres"))
