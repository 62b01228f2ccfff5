"""What the deployment knows of somebody it has issued a credential to: enough to recognise it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final

import bcrypt

from propeller_fl.access._permissions import AccessRole

# Passwords are 256 random bits, which no number of guesses finds: a slow hash would cost a
# broker seconds when all its proplets come back at once, and protect nothing.
_BCRYPT_ROUNDS: Final = 4
_PBKDF2_ROUNDS: Final = 101  # mosquitto's own default
_SALT_BYTES: Final = 12
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """One user of the broker and of HTTP. Holds hashes, none of which opens anything.

    ``serial``  of its certificate, in hexadecimal; empty when it has none
    """

    name: str
    role: AccessRole
    client_id: str = field(repr=False)  # unguessable: whoever knows it can end the session
    issued_at: str  # ISO 8601, UTC
    serial: str = ""
    bcrypt: str = field(default="", repr=False)  # of the password, for nats-server
    pbkdf2: str = field(default="", repr=False)  # of the password, for mosquitto
    token_sha256: str = field(default="", repr=False)  # of the HTTP token

    def has_token(self, token: str) -> bool:
        """In a time that does not depend on where the two differ."""
        found = hashlib.sha256(token.encode()).hexdigest()
        return hmac.compare_digest(found, self.token_sha256)


def new_secret() -> str:
    """256 random bits as text that needs no escaping anywhere: letters, digits, ``-`` and ``_``."""
    while True:
        text = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).rstrip(b"=").decode()
        if text[0] != "-":  # else it looks like an option
            return text


def bcrypt_hash(password: str) -> str:
    """As nats-server reads it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS, b"2a")).decode()


def pbkdf2_hash(password: str) -> str:
    """As mosquitto 2 reads it: ``$7$iterations$salt$hash``, PBKDF2 with HMAC-SHA-512."""
    salt = os.urandom(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PBKDF2_ROUNDS)
    texts = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"$7${_PBKDF2_ROUNDS}${'$'.join(texts)}"


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
