"""Compiled code is kept on disk, and only code that nobody else can have put there is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from propeller_fl.proplet import Invocation, WasmtimeRuntime
from tests.proplet.modules import client, say

GOOD, OTHER = say("good"), say("evil")


def run(cache_dir: Path, image: bytes) -> bytes:
    """Run a module in a runtime of its own, as the next process would."""
    with WasmtimeRuntime(cache_dir) as runtime:
        return runtime.run(runtime.compile(image), Invocation()).stdout


def entry(cache_dir: Path) -> Path:
    """The one file in a cache."""
    (path,) = cache_dir.iterdir()
    return path


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """A cache whose entry for GOOD holds the compiled code of OTHER: loading it shows."""
    good, other = tmp_path / "cache", tmp_path / "other"
    assert run(good, GOOD) == b"good"
    assert run(other, OTHER) == b"evil"
    entry(good).write_bytes(entry(other).read_bytes())
    return good


def test_compiled_code_is_loaded_from_the_cache(cache_dir: Path) -> None:
    assert run(cache_dir, GOOD) == b"evil"


def test_cache_is_closed_to_other_users(tmp_path: Path) -> None:
    run(tmp_path / "new" / "cache", GOOD)

    assert (tmp_path / "new" / "cache").stat().st_mode & 0o777 == 0o700
    assert entry(tmp_path / "new" / "cache").stat().st_mode & 0o777 == 0o600


def open_file(cache_dir: Path) -> None:
    entry(cache_dir).chmod(0o644)


def open_directory(cache_dir: Path) -> None:
    cache_dir.chmod(0o755)


def symlink_file(cache_dir: Path) -> None:
    path = entry(cache_dir)
    target = path.rename(cache_dir.parent / "elsewhere")
    path.symlink_to(target)


def hard_link_file(cache_dir: Path) -> None:
    os.link(entry(cache_dir), cache_dir.parent / "elsewhere")


def symlink_directory(cache_dir: Path) -> None:
    target = cache_dir.rename(cache_dir.parent / "elsewhere")
    cache_dir.symlink_to(target)


def pipe(cache_dir: Path) -> None:
    path = entry(cache_dir)
    path.unlink()
    os.mkfifo(path, mode=0o600)


def damage(cache_dir: Path) -> None:
    data = bytearray(entry(cache_dir).read_bytes())
    data[len(data) // 2] ^= 1
    entry(cache_dir).write_bytes(data)


def cut_short(cache_dir: Path) -> None:
    entry(cache_dir).write_bytes(entry(cache_dir).read_bytes()[:-100])


def empty(cache_dir: Path) -> None:
    entry(cache_dir).write_bytes(b"")


@pytest.mark.parametrize(
    "spoil",
    [
        open_file,
        open_directory,
        symlink_file,
        hard_link_file,
        symlink_directory,
        pipe,
        damage,
        cut_short,
        empty,
    ],
)
def test_cache_that_cannot_be_trusted_is_not_loaded(
    cache_dir: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(cache_dir)

    assert run(cache_dir, GOOD) == b"good"
    assert "compile cache not read" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_cache_of_another_user_is_not_loaded(cache_dir: Path, what: str) -> None:
    shutil.chown(entry(cache_dir) if what == "file" else cache_dir, user=12345)

    assert run(cache_dir, GOOD) == b"good"


def test_entry_that_was_refused_is_replaced(cache_dir: Path) -> None:
    damage(cache_dir)
    run(cache_dir, GOOD)
    poisoned = entry(cache_dir).read_bytes()

    assert run(cache_dir, GOOD) == b"good"
    assert entry(cache_dir).read_bytes() == poisoned


def test_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "cache"
    in_the_way.write_text("not a directory")

    assert run(in_the_way, GOOD) == b"good"
    assert "compile cache not written" in caplog.text


def test_cache_does_not_grow_for_ever(tmp_path: Path) -> None:
    with WasmtimeRuntime(tmp_path / "cache") as runtime:
        for number in range(40):
            runtime.compile(client(f"(drop (i32.const {number}))"))

    assert 0 < len(list((tmp_path / "cache").iterdir())) < 40


def test_no_temporary_file_is_left(cache_dir: Path) -> None:
    assert [path.suffix for path in cache_dir.iterdir()] == [".cwasm"]
