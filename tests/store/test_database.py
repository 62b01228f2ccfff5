"""One SQLite file: made whole or not at all, refused when it is not what was written."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from propeller_fl.errors import DamagedStoreError, StoreError
from propeller_fl.store._database import Database, check_database, open_to_read

SCHEMA = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX t_by_b ON t (b)"
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of some hundred pages, closed."""
    path = tmp_path / "store" / "x.db"
    with opened(path) as db, db.transaction():
        for number in range(1000):
            db.execute("INSERT INTO t VALUES (?, ?)", number, f"{number:0400}")
    return path


@contextlib.contextmanager
def opened(path: Path, version: int = 1) -> Iterator[Database]:
    db = Database(path, SCHEMA, version)
    try:
        yield db
    finally:
        db.close()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite_a_page(path: Path) -> None:
    pages = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        file.seek(pages // 2 * PAGE)
        file.write(os.urandom(PAGE))


def overwrite_with_text(path: Path) -> None:
    path.write_bytes(b"not a database, however long it is\n" * 1000)


def replace_with_anothers(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (x)")


DAMAGES = (empty, cut_short, overwrite_a_page, overwrite_with_text, replace_with_anothers)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_left_as_it_is(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = path.read_bytes()
    with pytest.raises(DamagedStoreError, match=r"x\.db is damaged") as refused, opened(path):
        pass
    assert "backup" in refused.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES[:-1])
def test_a_check_finds_it_too_and_changes_nothing(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = path.read_bytes()
    with pytest.raises(DamagedStoreError, match=r"x\.db is damaged"):
        check_database(path)
    assert path.read_bytes() == before


def test_a_check_counts_what_is_there(path: Path) -> None:
    assert check_database(path) == {"t": 1000}
    with opened(path) as db, db.transaction():  # while another has it open, and writes
        db.execute("DELETE FROM t WHERE a < 10")
        assert check_database(path) == {"t": 1000}


def test_damage_that_comes_later_is_found_when_its_pages_are_read(path: Path) -> None:
    with opened(path) as db:
        with path.open("r+b") as file:
            file.seek(2 * PAGE)
            file.write(os.urandom(path.stat().st_size - 2 * PAGE))
        with pytest.raises(DamagedStoreError, match="malformed"):
            list(db.rows("SELECT * FROM t ORDER BY a"))


def test_a_file_is_made_with_its_tables_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with pytest.raises(StoreError, match="syntax error"):
        Database(path, "CREATE TABLE whole (x); CREATE TABLE half (", 1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.db.unfinished").write_text("left by one that was killed")
    with opened(path):
        assert check_database(path) == {"t": 0}
    assert [file.name for file in tmp_path.iterdir() if "unfinished" in file.name] == []


def test_who_reads_cannot_write_and_sees_what_is_written(path: Path) -> None:
    with opened(path) as writer, contextlib.closing(open_to_read(path)) as reader:
        writer.execute("DELETE FROM t")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("INSERT INTO t VALUES (1, 'x')")


def test_an_older_file_is_not_brought_up_by_who_only_reads(path: Path) -> None:
    with contextlib.closing(open_to_read(path)) as reader:
        with pytest.raises(StoreError, match="has schema 1, this program knows 2") as refused:
            Database(reader, SCHEMA, 2, {1: "DROP TABLE t"})
        assert "when it starts" in refused.value.hint
    assert check_database(path) == {"t": 1000}


def test_who_holds_the_lock_is_waited_for_and_then_named(path: Path) -> None:
    with (
        opened(path) as db,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="another process holds it"), db.transaction():
            pass
        other.execute("ROLLBACK")
        with db.transaction():
            db.execute("DELETE FROM t")
