"""A file system of a few megabytes that is really full, or really read-only, when a test wants it.

It is a tmpfs in a mount namespace of its own, which Linux gives to root, and in most places to any
user. Only processes started ``inside`` see it under its path; the test sees it under ``seen``.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

_HOLD = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec cat'
_WAYS = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


class NoNamespaces(Exception):
    """This machine gives us no mount namespace."""


class SmallDisk:
    """``path`` is an empty directory before and after."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._holder, self._entries = _hold(path, size_bytes)
        self.seen = Path(f"/proc/{self._holder.pid}/root") / path.relative_to("/")
        self._ballast = self.seen / ".ballast"

    @property
    def inside(self) -> list[str]:
        """What goes before a command that is to see it."""
        return ["nsenter", f"--target={self._holder.pid}", *self._entries]

    def fill(self) -> None:
        """Leave not one byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for piece in (bytes(65_536), b"\0"):  # the last write of a page may be a short one
                with contextlib.suppress(OSError):
                    while True:
                        file.write(piece)

    def free(self) -> None:
        """Give back what ``fill`` took."""
        self._ballast.unlink(missing_ok=True)

    def cover_read_only(self, path: Path) -> None:
        """From now on ``path`` in it can be opened for reading only."""
        self._run("mount", "--bind", "-o", "ro", str(path), str(path))

    def uncover(self, path: Path) -> None:
        self._run("umount", str(path))

    def close(self) -> None:
        self._holder.communicate(timeout=10)  # the end of its input ends it, and the namespace

    def _run(self, *command: str) -> None:
        subprocess.run([*self.inside, *command], check=True, capture_output=True)


def _hold(path: Path, size_bytes: int) -> tuple[subprocess.Popen[bytes], list[str]]:
    """The process that keeps the namespace, and how others enter it."""
    words = ""
    for way in _WAYS:
        holder = subprocess.Popen(
            [*way, "sh", "-c", _HOLD, "sh", str(size_bytes), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert holder.stdout is not None
        if holder.stdout.readline() == b"mounted\n":
            user = ["--user", "--preserve-credentials"] if "--user" in way else []
            return holder, [*user, "--mount"]
        _, stderr = holder.communicate(timeout=10)
        words += stderr.decode(errors="replace")
    raise NoNamespaces(words.strip())


@contextlib.contextmanager
def small_disk(path: Path, size_bytes: int = 8 * 1024 * 1024) -> Iterator[SmallDisk]:
    disk = SmallDisk(path, size_bytes)
    try:
        yield disk
    finally:
        disk.close()
