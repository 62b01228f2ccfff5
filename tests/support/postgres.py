"""A real PostgreSQL server for tests, where one is installed: on loopback, with files of its own.

It refuses to run as root, so there it runs as ``nobody``. It ends with the test process.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from propeller_fl.store import PostgresAddress

from .brokers import free_port
from .wait import wait_until

PASSWORD: Final = "only for tests"
_UNPRIVILEGED: Final = "nobody"


class PostgresServer:
    """One that runs after ``start``, and has one user, who needs a password."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._programs = programs
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.password_file = directory / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self._log = directory / "log"
        if os.getuid() == 0:
            shutil.chown(directory, _UNPRIVILEGED)
            shutil.chown(self.password_file, _UNPRIVILEGED)
        initdb = [
            "initdb", "--pgdata", str(self._data), "--username=fl", "--auth=scram-sha-256",
            "--no-sync", f"--pwfile={self.password_file}", "--encoding=UTF8", "--locale=C.UTF-8",
        ]  # fmt: skip
        subprocess.run(self._command(*initdb), check=True, capture_output=True, cwd=directory)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        """Run it, again on the same port, and wait until it lets us in."""
        options = (
            f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=",
            "shared_buffers=16MB", "max_connections=40",
        )  # fmt: skip
        command = self._command(
            "postgres", "-D", str(self._data), *(f"--{option}" for option in options)
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)
        wait_until(self._lets_in, 60, f"PostgreSQL lets us in, see {self._log}")

    def stop(self) -> None:
        """End it as a crash would, which takes it no time; harmless when it has ended."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(60)
            self._process = None

    def new_place(self, **changes: Any) -> PostgresAddress:
        """An empty schema, which is made sooner than a database, and goes sooner."""
        name = f"place_{next(self._numbers)}"
        self.execute(self._address(), sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return replace(self._address(f"?options=-csearch_path%3D{name}"), **changes)

    def execute(
        self, address: PostgresAddress, statement: Any, *values: object
    ) -> list[tuple[Any, ...]]:
        """Past the store, as an administrator may; returns the rows, if it has any."""
        with closing(self._connect(address)) as db:
            cursor = db.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def _address(self, options: str = "") -> PostgresAddress:
        url = f"postgresql://fl@127.0.0.1:{self.port}/postgres{options}"
        return PostgresAddress(url, self.password_file)

    def _connect(self, address: PostgresAddress) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(address.url, password=PASSWORD, connect_timeout=10, autocommit=True)

    def _lets_in(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PostgreSQL ended: {self._log.read_text()}"
        try:
            self._connect(self._address()).close()
        except psycopg.OperationalError:
            return False
        return True

    def _command(self, program: str, *arguments: str) -> list[str]:
        user = ["--reuid", _UNPRIVILEGED, "--regid", "nogroup", "--clear-groups"]
        as_whom = user if os.getuid() == 0 else []
        program = str(self._programs / program)
        return ["setpriv", *as_whom, "--pdeathsig", "QUIT", "--", program, *arguments]


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """One of its own; the test is skipped where PostgreSQL is not installed."""
    found = shutil.which("postgres")
    installed = [Path(found).resolve().parent] if found else []
    installed += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not installed:
        pytest.skip("PostgreSQL is not installed")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv, which starts PostgreSQL as another user, is not installed")
    # not where pytest has its directories, which nobody else may enter
    with tempfile.TemporaryDirectory(prefix="propeller-fl-postgres-") as directory:
        server = PostgresServer(Path(directory), installed[0])
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One for all tests of this process, which share it by databases of their own."""
    with postgres_server() as server:
        yield server
