"""What to try when the file system says no."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

FULL: Final = "the disk is full: free some space, nothing was lost"

_REMEDIES: Final = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "the quota is used up: free some space, nothing was lost",
    errno.EFBIG: "no file may become so large here: raise the limit (ulimit -f), nothing was lost",
    errno.EROFS: "the disk is mounted read-only: set {setting} to another place",
    errno.EACCES: "check who owns it, or set {setting} to another place",
    errno.EPERM: "check who owns it, or set {setting} to another place",
    errno.ENOTDIR: "a file is in the way: move it, or set {setting} to another place",
    errno.EEXIST: "a file is in the way: move it, or set {setting} to another place",
    errno.EMFILE: "raise the limit on open files (ulimit -n), nothing was lost",
    errno.ENFILE: "the machine has too many files open, nothing was lost",
    errno.EIO: "the disk fails: look into the kernel's log, and make a copy while you can",
}


def remedy(err: OSError, setting: str) -> str:
    """One sentence on ``err``, or nothing. ``setting`` is the one that says where the files are."""
    return _REMEDIES.get(err.errno or 0, "").format(setting=setting)


def sync_directory(directory: Path) -> None:
    """Make durable which files are in it. Raises :class:`OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
