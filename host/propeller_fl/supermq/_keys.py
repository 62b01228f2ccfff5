"""The key with which SuperMQ's auth service signs its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from propeller_fl.errors import StoreError
from propeller_fl.supermq._secrets import write_secret

KEY_NAME: Final = "active.key"


def write_signing_key(directory: Path) -> Path:
    """Write a new Ed25519 private key (PKCS #8, PEM, mode 0600) as ``directory/active.key``.

    Raises :class:`StoreError`, also when there is a key: to replace it would end every session.
    """
    path = directory / KEY_NAME
    if path.exists():
        raise StoreError(
            f"there is a key at {path}",
            hint="it is kept, since a new one ends every session; move it away to get another",
        )
    key = Ed25519PrivateKey.generate()
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path
