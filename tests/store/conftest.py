"""Where rounds may be kept."""

from __future__ import annotations

from tests.store.round_stores import place
from tests.support.postgres import postgres

__all__ = ["place", "postgres"]
