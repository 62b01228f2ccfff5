"""Who is alive and what they introduced themselves with. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from propeller_fl.wire import Alive, Discovery, Liveness

_MAX_PROPLETS: Final = 200_000  # beyond it the one silent for longest is forgotten


class Roster:
    """Proplets by id. One is alive for ``liveness_timeout_s`` after each word of it, unless that
    was a goodbye. ``known`` is what they said of themselves before a restart."""

    def __init__(
        self, liveness_timeout_s: float, known: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._timeout_s = liveness_timeout_s
        self._metadata: dict[str, Mapping[str, str]] = dict(known or {})
        self._heard_s: OrderedDict[str, float] = OrderedDict()  # longest silent first

    def introduced(self, discovery: Discovery, now_s: float) -> bool:
        """A proplet introduced itself; whether with anything new."""
        is_new = self._metadata.get(discovery.proplet_id) != discovery.metadata
        self._metadata[discovery.proplet_id] = discovery.metadata
        self._heard(discovery.proplet_id, now_s)
        return is_new

    def said(self, alive: Alive, now_s: float) -> None:
        """A heartbeat, or the last will."""
        if alive.status is Liveness.OFFLINE:
            self._heard_s.pop(alive.proplet_id, None)
        else:
            self._heard(alive.proplet_id, now_s)

    def alive(self, now_s: float) -> dict[str, Mapping[str, str]]:
        """Those who are, with what they introduced themselves with."""
        while self._heard_s and now_s - next(iter(self._heard_s.values())) > self._timeout_s:
            self._heard_s.popitem(last=False)
        return {name: self._metadata.get(name, {}) for name in self._heard_s}

    def _heard(self, proplet_id: str, now_s: float) -> None:
        self._heard_s[proplet_id] = now_s
        self._heard_s.move_to_end(proplet_id)
        if len(self._heard_s) > _MAX_PROPLETS:
            self._heard_s.popitem(last=False)
