"""Files that only their owner may read."""

from __future__ import annotations

import os
from pathlib import Path

from propeller_fl import disk
from propeller_fl.errors import StoreError


def write_secret(path: Path, content: bytes) -> bool:
    """Make ``path`` hold ``content``, mode 0600, whole or not at all. False: it did so already.

    Raises :class:`StoreError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and path.read_bytes() == content:
            path.chmod(0o600)
            return False
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as err:
        raise StoreError(
            f"{path} cannot be written: {err.strerror}", hint=disk.remedy(err, "the directory")
        ) from err
    return True
