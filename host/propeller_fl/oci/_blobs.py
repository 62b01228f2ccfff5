"""What was pulled, on disk by its digest."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from propeller_fl import disk
from propeller_fl.errors import ImageError

_log = logging.getLogger(__name__)

_KEPT: Final = 128  # manifests and modules; the least lately used go first
_KEPT_BYTES: Final = 1024 * 1024 * 1024
_ABANDONED_S: Final = 86_400.0


class Blobs:
    """Files in ``directory``, each under the SHA-256 of its bytes, which is checked whenever one is
    read: one that is damaged is removed and counts as missing. Any thread, any process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, digest: str, max_bytes: int) -> bytes | None:
        """The bytes with this digest, or None."""
        path = self._directory / digest
        try:
            with path.open("rb") as file:
                data = file.read(max_bytes + 1)
        except OSError:
            return None
        if len(data) > max_bytes or hashlib.sha256(data).hexdigest() != digest:
            _log.warning("%s is damaged, and is fetched again", path)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def put(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Store what ``chunks`` gives, all of it or nothing. Its caller has checked, or checks
        before the last chunk ends, that it has this digest. Raises :class:`ImageError`."""
        temporary = self._directory / f".{secrets.token_hex(8)}.tmp"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._directory / digest)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            self._prune()
        except OSError as err:
            raise ImageError(
                f"an image cannot be kept in {self._directory}: {err.strerror}",
                hint=disk.remedy(err, "data_dir"),
            ) from err

    def _prune(self) -> None:
        entries: list[tuple[float, int, Path]] = []
        for path in self._directory.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        entries.sort(reverse=True)
        newest_s = entries[0][0] if entries else 0.0
        kept = kept_bytes = 0
        for modified_s, size, path in entries:
            if path.name.startswith("."):  # another's, being written, or left behind by a crash
                gone = modified_s < newest_s - _ABANDONED_S
            else:
                kept, kept_bytes = kept + 1, kept_bytes + size
                gone = kept > _KEPT or kept_bytes > _KEPT_BYTES
            if gone:
                with contextlib.suppress(OSError):
                    path.unlink()
