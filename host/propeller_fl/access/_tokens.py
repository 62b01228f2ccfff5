"""Whose HTTP token that is, as the deployment stands now."""

from __future__ import annotations

import threading

from propeller_fl.access._desk import AccessDesk
from propeller_fl.access._identity import Identity


class TokenBook:
    """Reads the identities again when they have changed, so that who is revoked is out at once.
    Any thread."""

    def __init__(self, desk: AccessDesk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._stamp = (-1, -1)
        self._identities: tuple[Identity, ...] = ()

    def name_of(self, token: str) -> str | None:
        """As :meth:`identity_of`, the name alone."""
        found = self.identity_of(token)
        return found.name if found else None

    def identity_of(self, token: str) -> Identity | None:
        """``None`` when it is nobody's. Each is compared in constant time, and always all of them.

        Raises :class:`ConfigError` when the identities cannot be read.
        """
        found = None
        for identity in self._now():
            if identity.has_token(token):
                found = identity
        return found

    def _now(self) -> tuple[Identity, ...]:
        with self._lock:
            stamp = self._desk.stamp
            if stamp != self._stamp:
                self._identities, self._stamp = self._desk.identities(), stamp
            return self._identities
