"""Whose modules a proplet runs."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path
from typing import Final

from propeller_fl.errors import KeyFileError, SignatureError
from propeller_fl.signing._keys import PublicKey
from propeller_fl.signing._signatures import Signatures, signed_message

_log = logging.getLogger(__name__)

_SUFFIX: Final = ".pub"
_MAX_KEYS: Final = 256
_MAX_BYTES: Final = 16 * 1024
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class TrustedKeys:
    """Public keys, each a PEM file ``{key_id}.pub`` in a directory of one's own.

    Whoever can write there decides what runs: a directory or file that belongs to another user than
    us or root, or that others may write to, is not used. It is read anew for every question, so
    that a key which is removed has had its last word.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def known(self) -> list[PublicKey]:
        """By id. A file that is not fit is left out, with a warning. Raises
        :class:`KeyFileError` when the directory is not."""
        try:
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        except OSError as err:
            raise KeyFileError(f"trusted keys in {self._directory}: {err.strerror}") from err
        try:
            _require_own(os.fstat(fd), self._directory)
            with os.scandir(fd) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIX))
            found: dict[str, PublicKey] = {}
            for name in names[:_MAX_KEYS]:
                try:
                    key = self._read(fd, name)
                except KeyFileError as err:
                    _log.warning("a key is not trusted: %s", err)
                else:
                    found[key.key_id] = key
            return [found[key_id] for key_id in sorted(found)]
        finally:
            os.close(fd)

    def add(self, key: PublicKey) -> None:
        """Trust ``key``. Raises :class:`KeyFileError`."""
        path = self._directory / f"{key.key_id}{_SUFFIX}"
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            _require_own(self._directory.stat(), self._directory)
            temporary = self._directory / f".{key.key_id}.tmp"
            temporary.unlink(missing_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o644)  # whatever the umask
                file.write(key.pem())
                file.flush()
                os.fsync(fd)
            temporary.replace(path)
        except OSError as err:
            raise KeyFileError(f"{path} cannot be written: {err.strerror}") from err

    def remove(self, key_id: str) -> None:
        """Trust the key with this id no more. Raises :class:`KeyFileError` when there is none."""
        known = {key.key_id for key in self.known()}
        if key_id not in known:
            raise KeyFileError(
                f"no key {key_id[:40]!r} is trusted", hint=", ".join(sorted(known)) or "none is"
            )
        for path in self._directory.iterdir():
            if path.suffix == _SUFFIX and PublicKey.read(path).key_id == key_id:
                try:
                    path.unlink()
                except OSError as err:
                    raise KeyFileError(f"{path} cannot be removed: {err.strerror}") from err

    def require(self, image: bytes, signatures: Signatures) -> str:
        """The id of a trusted key that signed ``image``.

        Raises :class:`SignatureError`, which begins with its reason: ``unsigned_image`` or
        ``untrusted_signature``; and :class:`KeyFileError`.
        """
        sha256 = hashlib.sha256(image).hexdigest()
        if not signatures:
            raise SignatureError(
                f"unsigned_image: this proplet runs signed modules only, and the one with sha256"
                f" {sha256} has no signature",
                hint="propeller-fl client sign",
            )
        trusted = {key.key_id: key for key in self.known()}
        message = signed_message(sha256)
        for key_id, signature in signatures.items():
            if key_id in trusted and trusted[key_id].verifies(signature, message):
                return key_id
        named = sorted(key_id for key_id in signatures if key_id in trusted)
        if named:
            raise SignatureError(
                f"untrusted_signature: that of key {', '.join(named)} is not of the module with"
                f" sha256 {sha256}",
                hint="look at the module, and sign it again",
            )
        raise SignatureError(
            f"untrusted_signature: the module is signed by {', '.join(sorted(signatures))}, and"
            f" this proplet trusts {', '.join(trusted) or 'nobody'}",
            hint="propeller-fl client trust",
        )

    def _read(self, directory: int, name: str) -> PublicKey:
        path = self._directory / name
        try:
            # Without O_NONBLOCK, a pipe in place of the file would block the open.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise KeyFileError(f"{path} is no regular file")
                _require_own(status, path)
                return PublicKey.from_pem(file.read(_MAX_BYTES), path)
        except OSError as err:
            raise KeyFileError(f"{path} cannot be read: {err.strerror}") from err


def _require_own(status: os.stat_result, path: Path) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileError(
            f"{path} belongs to user {status.st_uid}", hint="it must be ours, or root's"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise KeyFileError(f"{path} may be written by others", hint=f"chmod go-w {path}")
