"""A file that is put together from parts, and goes on where it was after a crash.

Nothing is written down beside it: a part is there if its bytes have its digest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from propeller_fl import disk
from propeller_fl.errors import StoreError
from propeller_fl.wire import Manifest

_RETRY_LOCK_S: Final = 0.2


class PartFile:
    """The file at ``path``, ours alone while it is open: another process waits for it.

    ``setting`` is named in errors, as what says where the file is. Raises :class:`StoreError`;
    an empty disk block is taken for every byte before the first part comes, so that a full disk is
    known at once.
    """

    def __init__(self, path: Path, manifest: Manifest, setting: str) -> None:
        self.path = path
        self._manifest = manifest
        self._setting = setting
        self._descriptor = -1

    def open(self, cancelled: threading.Event) -> bool:
        """Whether it is ours before ``cancelled`` is set."""
        while not cancelled.is_set():
            try:
                if self._try_open():
                    return True
            except OSError as err:
                self.close()
                raise self._failed(err) from err
            cancelled.wait(_RETRY_LOCK_S)
        return False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def there(self) -> list[int]:
        """The indices of the parts that are there and right."""
        try:
            return [
                index
                for index, sha256 in enumerate(self._manifest.parts)
                if hashlib.sha256(self.read(index)).hexdigest() == sha256
            ]
        except OSError as err:
            raise self._failed(err) from err

    def read(self, index: int) -> bytes:
        place = self._manifest.place(index)
        return os.pread(self._descriptor, len(place), place.start)

    def write(self, index: int, data: bytes) -> None:
        """``data`` has the digest of that part."""
        start, view = self._manifest.place(index).start, memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, start)
                start, view = start + written, view[written:]
        except OSError as err:
            raise self._failed(err) from err

    def sync(self) -> None:
        """Durable when this returns."""
        try:
            os.fsync(self._descriptor)
        except OSError as err:
            raise self._failed(err) from err

    def drop(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _try_open(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._descriptor = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            return False
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == os.fstat(descriptor).st_ino:
                os.posix_fallocate(descriptor, 0, self._manifest.size_bytes)
                os.ftruncate(descriptor, self._manifest.size_bytes)
                os.utime(descriptor)
                return True
        self.close()  # it was finished, or removed, while we waited
        return self._try_open()

    def _failed(self, err: OSError) -> StoreError:
        hint = disk.remedy(err, self._setting)
        return StoreError(f"{self.path} cannot be written: {err.strerror}", hint=hint)
