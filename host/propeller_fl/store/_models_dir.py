"""The directory of models: one file a version, from which exactly what was published is had back.

``global_model_v{N}.json`` is the document itself. One in CBOR is kept as ``.safetensors``, which
other tools read, if our encoder makes the very same document of it again, and else as ``.cbor``. A
large model is ``.safetensors`` as well, with what was published, its manifest, beside it as
``.manifest.json``: the manifest is there before the file has its name, and means nothing alone. A
file is complete or not there: it is written under another name, synced, renamed, and the directory
synced. One writer at a time holds a lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import logging
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from propeller_fl import disk
from propeller_fl.errors import DamagedStoreError, MessageError, StoreError
from propeller_fl.store._tensor_file import (
    DocumentFile,
    Origin,
    TensorFile,
    gives_back,
    pack,
    whole_document,
)
from propeller_fl.wire import Format, Manifest, Model, Reason, format_of

_log = logging.getLogger(__name__)

NAME: Final = re.compile(r"global_model_v(0|[1-9][0-9]{0,17})\.(json|cbor|safetensors)", re.ASCII)
TENSOR_FILE: Final = ".safetensors"
LOCK: Final = ".lock"
MANIFEST: Final = re.compile(r"(global_model_v(?:0|[1-9][0-9]{0,17}))\.manifest\.json", re.ASCII)
UNFINISHED: Final = ".unfinished-"
_FETCHED: Final = ".fetching-"
_FORGOTTEN_S: Final = 7 * 86_400  # what has been fetched in part and not gone on with since
_BUFFER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version on disk. Format, size and digest (SHA-256, lower-case hexadecimal) are those of
    the document that was published."""

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
        """The document of a version. StoreError when there is none; DamagedStoreError when the file
        does not give back what was published."""
        return self._read(self._existing(version).name)

    def open(self, version: int) -> BinaryIO:
        """The same as a file to read from, which is not checked; the caller closes it."""
        return _open_document(self._existing(version))

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
                kept, ending = _as_kept(version, data)
                name = f"global_model_v{version}{ending}"
                self._drop_manifest(version)  # of one that was never finished
                self._write(name, kept)
            self._sync_directory()  # an earlier try may have come up to here
            return self._describe(name)

    def _existing(self, version: int) -> Path:
        with self._mutex:
            name = self._name_of(version)
        if name is None:
            raise StoreError(f"{self.directory} has no model version {version}")
        return self.directory / name

    def fetching(self, sha256: str) -> Path:
        """Where the file of a large model is put together, across restarts."""
        return self.directory / f"{_FETCHED}{sha256}"

    def put_large(self, manifest: Manifest, document: bytes, content: Path) -> StoredModel:
        """Keep ``content``, a file in this directory that is complete, checked and synced, as the
        model of that manifest; the file is taken. Errors as those of :meth:`put`."""
        if self._lock is None:
            raise StoreError(f"{self.directory} was opened to read only")
        with self._mutex:
            stem = f"global_model_v{manifest.version}"
            name = self._name_of(manifest.version)
            if name is None:
                name = stem + TENSOR_FILE
                self._write(f"{stem}.manifest.json", document)
                try:
                    content.rename(self.directory / name)
                except OSError as err:
                    raise _failed(self.directory / name, "cannot be written", err) from err
            elif self._read(name) != document:
                raise StoreError(
                    f"model version {manifest.version} exists with other bytes in "
                    f"{self.directory / name}",
                    hint="a version is never used twice: do two coordinators publish here?",
                )
            self._sync_directory()
            return self._describe(name)

    def content(self, version: int) -> Path | None:
        """The file of a large model, ``None`` for one whose document holds it."""
        path = self._existing(version)
        return path if path.suffix == TENSOR_FILE and _manifest_path(path).exists() else None

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
            for ending in (".json", ".cbor", TENSOR_FILE)
            if (self.directory / (name := f"global_model_v{version}{ending}")).is_file()
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
            match = NAME.fullmatch(name)
            assert match is not None  # nothing else is ever described
            known = identity, self._look_at(path, int(match[1]))
            self._known[name] = known
        return known[1]

    def _look_at(self, path: Path, version: int) -> StoredModel:
        try:
            if path.suffix == TENSOR_FILE and _manifest_path(path).exists():
                document = _manifest_path(path).read_bytes()
                sha256 = hashlib.sha256(document).hexdigest()
                return StoredModel(version, Format.JSON, len(document), sha256)
            if path.suffix == TENSOR_FILE:
                with contextlib.suppress(MessageError):
                    origin = _origin_of(TensorFile.read(path))
                    return StoredModel(version, origin.format, origin.size_bytes, origin.sha256)
            data = path.read_bytes()
        except OSError as err:
            raise _failed(path, "cannot be read", err) from err
        sha256 = hashlib.sha256(data).hexdigest()
        form = Format.CBOR if path.suffix == TENSOR_FILE else Format(path.suffix[1:])
        return StoredModel(version, form, len(data), sha256)

    def _read(self, name: str) -> bytes:
        path = self.directory / name
        try:
            return read_document(path)
        except MessageError as err:
            raise DamagedStoreError(
                f"{path} is damaged: {err.args[0]}",
                hint="restore it (`propeller-fl model get` has what the broker has), or remove it",
            ) from None

    def _drop_manifest(self, version: int) -> None:
        path = self.directory / f"global_model_v{version}.manifest.json"
        try:
            if path.exists():  # on a disk that is read-only, nothing can be removed even so
                path.unlink()
        except OSError as err:
            raise _failed(path, "cannot be removed", err) from err

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
            for path in self.directory.glob(f"{_FETCHED}*"):
                if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                    path.unlink(missing_ok=True)
                    _log.info("removed %s, which nobody has gone on fetching", path)
            for path in self.directory.glob("*.manifest.json"):
                match = MANIFEST.fullmatch(path.name)
                if match and not path.with_name(match[1] + TENSOR_FILE).exists():
                    path.unlink(missing_ok=True)
                    _log.info("removed %s, whose model was never finished", path)
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


def read_document(path: Path) -> bytes:
    """The document that was published, from its file.

    Raises :class:`MessageError` when a safetensors file does not give it back, :class:`StoreError`
    when it cannot be read.
    """
    try:
        if path.suffix != TENSOR_FILE:
            return path.read_bytes()
        if _manifest_path(path).exists():
            return _manifest_path(path).read_bytes()
        header = TensorFile.read(path)
        with path.open("rb") as file:
            data = whole_document(file, header)
    except OSError as err:
        raise _failed(path, "cannot be read", err) from err
    if hashlib.sha256(data).hexdigest() != _origin_of(header).sha256:
        raise MessageError(
            Reason.UNDECODABLE, "what it holds is not what was published, by its SHA-256"
        )
    return data


def model_fault(data: bytes, version: int) -> str:
    """Why ``data`` is not a global model of that version, or nothing."""
    try:
        manifest = Manifest.decode(data)
        found = Model.decode(data).version if manifest is None else manifest.version
    except MessageError as err:
        return str(err.args[0])
    return "" if found in (None, version) else f"it says version {found}"


def _as_kept(version: int, document: bytes) -> tuple[bytes, str]:
    """The bytes of the file, and the ending of its name."""
    if format_of(document) is Format.JSON:
        return document, ".json"
    with contextlib.suppress(MessageError):  # no model, or one that the format has no room for
        packed = pack(document)
        if gives_back(packed, document):
            return packed, TENSOR_FILE
    return document, ".cbor"


def _open_document(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
        if path.suffix != TENSOR_FILE:
            return file
        if _manifest_path(path).exists():
            file.close()
            return _manifest_path(path).open("rb")
        try:
            pieces = list(TensorFile.read(path).document(file))
            return io.BufferedReader(DocumentFile(file, pieces), _BUFFER_BYTES)
        except BaseException:
            file.close()
            raise
    except MessageError as err:
        raise DamagedStoreError(f"{path} is damaged: {err.args[0]}") from None
    except OSError as err:
        raise _failed(path, "cannot be read", err) from err


def _manifest_path(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix(TENSOR_FILE)}.manifest.json")


def _origin_of(header: TensorFile) -> Origin:
    if header.origin is None:
        raise MessageError(
            Reason.UNDECODABLE,
            "no program of ours has written it",
            hint="`propeller-fl model put` publishes a safetensors file from elsewhere",
        )
    return header.origin


def _failed(path: Path, what: str, err: OSError) -> StoreError:
    hint = disk.remedy(err, "model_server.models_dir")
    return StoreError(f"{path} {what}: {err.strerror}", hint=hint)
