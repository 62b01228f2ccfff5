"""The coordinator's store, as commands read it beside the coordinator."""

from __future__ import annotations

from pathlib import Path

from propeller_fl.config import Settings
from propeller_fl.database_url import rounds_place
from propeller_fl.errors import RequestError
from propeller_fl.store import RoundStore, open_to_read


def open_rounds(settings: Settings) -> RoundStore:
    """To read. Raises :class:`RequestError` when there is none."""
    place = rounds_place(settings)
    if not isinstance(place, Path):
        return RoundStore(place, create=False)
    if not place.exists():
        raise RequestError(
            f"there is no coordinator's store at {place}",
            hint="name its directory with --data-dir, or set coordinator.database_url",
        )
    return RoundStore(open_to_read(place))


def has_rounds(settings: Settings) -> bool:
    """Whether there is a store to open."""
    place = rounds_place(settings)
    return not isinstance(place, Path) or place.exists()
