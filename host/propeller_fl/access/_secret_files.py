"""Files that nobody else may read, from their first byte on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from propeller_fl import disk
from propeller_fl.errors import ConfigError


def make_private(directory: Path) -> None:
    """Make ``directory`` with mode 0700, or give it that mode. Raises :class:`ConfigError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as err:
        raise _unusable(directory, err) from err


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put ``data`` at ``path``, whole or not at all, and durably; what was there is replaced, and
    never written to. Raises :class:`ConfigError`."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as err:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise _unusable(path, err) from err


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One at a time: waits for another command that changes the same thing."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise _unusable(path, err) from err
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _unusable(path: Path, err: OSError) -> ConfigError:
    return ConfigError(f"{path}: {err.strerror}", hint=disk.remedy(err, "data_dir"))
