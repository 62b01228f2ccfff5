"""Ed25519 keys as files: PEM, as OpenSSL reads and writes them."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from propeller_fl.errors import KeyFileError

_MAX_BYTES: Final = 16 * 1024
_ID_DIGITS: Final = 16
_SIGN_BIT: Final = 0x80
_P: Final = 2**255 - 19
# The points whose order divides 8, by y: a signature of such a key says nothing of who made it.
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """``raw`` is its 32 bytes, ``key_id`` the first 16 hexadecimal digits of their SHA-256."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise KeyFileError(f"a public key has 32 bytes, not {len(self.raw)}")
        y = int.from_bytes(self.raw[:31] + bytes([self.raw[31] & ~_SIGN_BIT]), "little")
        if y >= _P or y in _SMALL_ORDER:
            raise KeyFileError("the key is one that anybody could sign for", hint="make another")

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a PEM file. Raises :class:`KeyFileError`."""
        return cls.from_pem(_read(path), path)

    @classmethod
    def from_pem(cls, pem: bytes, path: Path) -> Self:
        """``path`` is for errors. Raises :class:`KeyFileError`."""
        hint = "`propeller-fl client keygen KEY` makes the pair KEY and KEY.pub"
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            if b"PRIVATE KEY" in pem:
                hint = "this is the private key, which stays where you sign: give the .pub file"
            raise KeyFileError(f"{path} is no public key in PEM", hint=hint) from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{path} is a key of another kind than Ed25519", hint=hint)
        try:
            return cls(key.public_bytes_raw())
        except KeyFileError as err:
            raise KeyFileError(f"{path}: {err.args[0]}", hint=err.hint) from None

    @property
    def key_id(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()[:_ID_DIGITS]

    def pem(self) -> bytes:
        return Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the private key of this one made ``signature`` of ``message``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What signs. It is never shown."""

    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a PEM file (PKCS #8) that nobody else can read. Raises :class:`KeyFileError`."""
        pem = _read(path, private=True)
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except TypeError:
            raise KeyFileError(
                f"{path} is encrypted", hint="openssl pkey -in … -out … decrypts it; chmod 600"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(
                f"{path} is no private key in PEM", hint="`propeller-fl client keygen` makes one"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(
                f"{path} is a key of another kind than Ed25519",
                hint="`propeller-fl client keygen` makes one",
            )
        return cls(key)

    @property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def save(self, path: Path) -> None:
        """Write the pair ``path`` (mode 0600) and ``path.pub``. Raises :class:`KeyFileError` rather
        than overwrite either."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = path.with_name(path.name + ".pub")
        if public.exists():
            raise KeyFileError(f"{public} is there already", hint="name another file")
        for file, data, mode in ((path, pem, 0o600), (public, self.public.pem(), 0o644)):
            try:
                fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:
                raise KeyFileError(f"{file} is there already", hint="name another file") from None
            except OSError as err:
                raise KeyFileError(f"{file} cannot be written: {err.strerror}") from err
            with os.fdopen(fd, "wb") as out:
                out.write(data)


def _read(path: Path, *, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeyFileError(f"{path} is open to other users", hint=f"chmod 600 {path}")
            data = file.read(_MAX_BYTES + 1)
    except OSError as err:
        raise KeyFileError(f"{path} cannot be read: {err.strerror}") from err
    if len(data) > _MAX_BYTES:
        raise KeyFileError(f"{path} is too large for a key")
    return data
