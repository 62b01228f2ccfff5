"""Tokens from a file, where no deployment of ``propeller-fl init`` issues them."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

from propeller_fl.access import SERVICE_ROLES, AccessRole
from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.web import Caller
from propeller_fl.wire import check_id

_MIN_CHARS: Final = 16


class TokenFile:
    """A line is ``NAME TOKEN``: a role's name (``operator``, ``publisher``, ``observer``,
    ``gateway``) or a proplet's id; a token alone is the gateway's, and may do everything. ``#``
    begins a comment. Read once. Raises :class:`ConfigError`, which shows no token."""

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text("ascii").splitlines()
        except OSError as error:
            raise ConfigError(f"gateway.token_file {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"gateway.token_file {path} is not ASCII") from error
        self._callers: list[tuple[bytes, Caller]] = []
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if words:
                self._callers.append(_caller(words, f"gateway.token_file {path}, line {number}"))
        if not self._callers:
            raise ConfigError(f"gateway.token_file {path} holds no token")

    def caller_of(self, token: str) -> Caller | None:
        """``None`` when it is nobody's. All are compared, each in constant time."""
        found = None
        shown = _digest(token)
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, shown):
                found = caller
        return found


def _caller(words: list[str], where: str) -> tuple[bytes, Caller]:
    *names, token = words
    name = names[0] if names else AccessRole.GATEWAY.value
    if len(names) > 1:
        raise ConfigError(f"{where}: more than a name and a token")
    if len(token) < _MIN_CHARS:
        raise ConfigError(
            f"{where} holds less than {_MIN_CHARS} characters",
            hint="openssl rand -hex 32 makes a token",
        )
    try:
        check_id(name, "name")
    except MessageError:
        raise ConfigError(f"{where}: the name before the token is none") from None
    role = AccessRole(name) if name in SERVICE_ROLES else AccessRole.PROPLET
    return _digest(token), Caller(name, role)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
