"""Compiled modules on disk. They are native code, so the door is kept shut.

Whoever can write here can run code as us, and no checksum helps against that: it could be forged
as well. So a directory or file that another user owns or can open is not used, and the log says
so. The checksum in each file only guards against damage.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_SUFFIX = ".cwasm"
_KEPT_FILES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class _UntrustedError(Exception):
    """The message says what is wrong with a directory or file, and what would mend it."""


class CompileCache:
    """Maps a key, fit for a file name, to bytes. A cache: every failure is a warning and a miss.

    The directory is made with mode 0700 when there is none; one that exists must be ours and
    closed to others. The ``_KEPT_FILES`` newest entries are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, key: str) -> bytes | None:
        """The bytes stored under ``key``; None when there are none that can be trusted."""
        name = key + _SUFFIX
        try:
            with self._open_directory() as directory:
                stored = _read_private(directory, name)
        except FileNotFoundError:
            return None
        except (_UntrustedError, OSError) as error:
            _log.warning("compile cache not read: %s", error)
            return None
        digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            _log.warning("compile cache not read: %s is damaged", self._directory / name)
            return None
        return data

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Store bytes under ``key``; readers see the old file or the new one, never a part."""
        temporary = f".{secrets.token_hex(8)}.tmp"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open_directory() as directory:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                fd = os.open(temporary, flags, 0o600, dir_fd=directory)
                try:
                    with os.fdopen(fd, "wb") as file:
                        file.write(hashlib.sha256(data).digest())
                        file.write(data)
                    os.replace(temporary, key + _SUFFIX, src_dir_fd=directory, dst_dir_fd=directory)
                except OSError:
                    os.unlink(temporary, dir_fd=directory)
                    raise
                _prune(directory)
        except (_UntrustedError, OSError) as error:
            _log.warning("compile cache not written: %s", error)

    @contextlib.contextmanager
    def _open_directory(self) -> Iterator[int]:
        """The directory as a descriptor, so that what was checked is what is used."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _require_private(os.fstat(fd), str(self._directory), "chmod 700")
            yield fd
        finally:
            os.close(fd)


def _require_private(status: os.stat_result, what: str, remedy: str) -> None:
    if status.st_uid != os.geteuid():
        raise _UntrustedError(f"{what} belongs to user {status.st_uid}, not to us: remove it")
    if status.st_mode & _OTHERS:
        raise _UntrustedError(f"{what} is open to other users: {remedy} it")


def _read_private(directory: int, name: str) -> bytes:
    # Without O_NONBLOCK, a pipe in place of the file would block the open.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
        status = os.fstat(file.fileno())
        _require_private(status, name, "remove")
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise _UntrustedError(f"{name} is not a file of its own: remove it")
        return file.read()


def _prune(directory: int) -> None:
    """Remove all but the newest entries. One that another process removed first is not missed."""
    entries: list[tuple[int, str]] = []
    for entry in os.scandir(directory):
        if entry.name.endswith(_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                entries.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    for _, name in sorted(entries)[:-_KEPT_FILES]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
