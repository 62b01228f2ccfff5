"""The directory of models: one file a version, exactly the bytes that are published.

``global_model_v{N}.json`` or ``.cbor``. A file is complete or not there: it is written under
another name, synced, renamed, and the directory synced. One writer at a time holds a lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from propeller_fl import disk
from propeller_fl.errors import MessageError, StoreError
from propeller_fl.wire import Format, Model, format_of

_log = logging.getLogger(__name__)

NAME: Final = re.compile(r"global_model_v(0|[1-9][0-9]{0,17})\.(json|cbor)", re.ASCII)
LOCK: Final = ".lock"
UNFINISHED: Final = ".unfinished-"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version on disk. ``sha256`` is of the file's bytes, in lower-case hexadecimal."""

    version: int
    format: Format
    size_bytes: int
    sha256: str


class ModelsDir:
    """Versions of the global model in ``directory``. Any thread; raises :class:`StoreError`.

    To write, it makes the directory if there is none, takes its lock until ``close`` and removes
    what a writer that died has left unfinished. With ``read_only`` it does none of this, and sees
    what another process has written.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.directory = directory
        self._mutex = threading.Lock()
        self._known: dict[str, tuple[tuple[int, int, int], StoredModel]] = {}  # by file name
        self._lock: int | None = None
        if not read_only:
            self._lock = self._take_lock()
            try:
                self._remove_unfinished()
                self.versions()  # two files of one version are better found now
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let another writer in. Again is harmless."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> ModelsDir:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def versions(self) -> list[StoredModel]:
        """Those that are kept, ascending."""
        with self._mutex:
            return [self._describe(name) for _, name in sorted(self._files().items())]

    def latest(self) -> StoredModel | None:
        """The highest version, or ``None`` when there is none at all."""
        with self._mutex:
            files = self._files()
            return self._describe(files[max(files)]) if files else None

    def find(self, version: int) -> StoredModel | None:
        """One version, or ``None``."""
        with self._mutex:
            name = self._name_of(version)
            return None if name is None else self._describe(name)

    def read(self, version: int) -> bytes:
        """The bytes of a version. StoreError when there is none."""
        with self.open(version) as file:
            try:
                return file.read()
            except OSError as err:
                raise _failed(Path(file.name), "cannot be read", err) from err

    def open(self, version: int) -> BinaryIO:
        """The same as a file to read from; the caller closes it."""
        with self._mutex:
            name = self._name_of(version)
        if name is None:
            raise StoreError(f"{self.directory} has no model version {version}")
        path = self.directory / name
        try:
            return path.open("rb")
        except OSError as err:
            raise _failed(path, "cannot be read", err) from err

    def put(self, version: int, data: bytes) -> StoredModel:
        """Keep ``data`` as ``version``, durable on return.

        The same bytes again change nothing. StoreError for other bytes under a version that
        exists, or when the disk does not take them: then it may be tried again.
        """
        if self._lock is None:
            raise StoreError(f"{self.directory} was opened to read only")
        with self._mutex:
            name = self._name_of(version)
            if name is not None:
                if self._read(name) != data:
                    raise StoreError(
                        f"model version {version} exists with other bytes in "
                        f"{self.directory / name}",
                        hint="a version is never used twice: do two coordinators publish here?",
                    )
            else:
                name = f"global_model_v{version}.{format_of(data)}"
                self._write(name, data)
            self._sync_directory()  # an earlier try may have come up to here
            return self._describe(name)

    # --- with the mutex held

    def _files(self) -> dict[int, str]:
        """The name of each version's file."""
        try:
            names = [entry.name for entry in os.scandir(self.directory) if entry.is_file()]
        except OSError as err:
            raise _failed(self.directory, "cannot be read", err) from err
        files: dict[int, str] = {}
        for name in names:
            match = NAME.fullmatch(name)
            if match is None:
                continue
            version = int(match[1])
            if version in files:
                raise StoreError(
                    f"{self.directory} has both {files[version]} and {name}",
                    hint="remove the one that was not published",
                )
            files[version] = name
        return files

    def _name_of(self, version: int) -> str | None:
        found = [
            name
            for form in Format
            if (self.directory / (name := f"global_model_v{version}.{form}")).is_file()
        ]
        if len(found) > 1:
            raise StoreError(
                f"{self.directory} has both {' and '.join(found)}",
                hint="remove the one that was not published",
            )
        return found[0] if found else None

    def _describe(self, name: str) -> StoredModel:
        """Reads the file only when it is not the one that was read before."""
        path = self.directory / name
        try:
            status = path.stat()
        except OSError as err:
            raise _failed(path, "cannot be read", err) from err
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._known.get(name)
        if known is None or known[0] != identity:
            data = self._read(name)
            match = NAME.fullmatch(name)
            assert match is not None  # nothing else is ever described
            sha256 = hashlib.sha256(data).hexdigest()
            known = identity, StoredModel(int(match[1]), Format(match[2]), len(data), sha256)
            self._known[name] = known
        return known[1]

    def _read(self, name: str) -> bytes:
        path = self.directory / name
        try:
            return path.read_bytes()
        except OSError as err:
            raise _failed(path, "cannot be read", err) from err

    def _write(self, name: str, data: bytes) -> None:
        path = self.directory / name
        unfinished = self.directory / f"{UNFINISHED}{name}-{secrets.token_hex(4)}"
        try:
            try:
                with unfinished.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(path)
            except BaseException:
                with contextlib.suppress(OSError):  # the next writer removes it
                    unfinished.unlink(missing_ok=True)
                raise
        except OSError as err:
            raise _failed(path, "cannot be written", err) from err

    # --- once

    def _take_lock(self) -> int:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as err:
            raise _failed(self.directory, "cannot be written", err) from err
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            os.close(lock)
            if err.errno != errno.EWOULDBLOCK:
                raise _failed(self.directory, "cannot be locked", err) from err
            raise StoreError(
                f"{self.directory} is in use by another model server",
                hint="stop that one, or set model_server.models_dir to another place",
            ) from None
        return lock

    def _remove_unfinished(self) -> None:
        try:
            for path in self.directory.glob(f"{UNFINISHED}*"):
                path.unlink(missing_ok=True)
                _log.info("removed %s, which a writer has left unfinished", path)
        except OSError as err:
            raise _failed(self.directory, "cannot be cleaned", err) from err

    def _sync_directory(self) -> None:
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as err:
            raise _failed(self.directory, "cannot be synced", err) from err


def model_fault(data: bytes, version: int) -> str:
    """Why ``data`` is not a global model of that version, or nothing."""
    try:
        found = Model.decode(data).version
    except MessageError as err:
        return str(err.args[0])
    return "" if found in (None, version) else f"it says version {found}"


def _failed(path: Path, what: str, err: OSError) -> StoreError:
    hint = disk.remedy(err, "model_server.models_dir")
    return StoreError(f"{path} {what}: {err.strerror}", hint=hint)
