"""Who is alive. Pure: it learns from what proplets say and from the time it is told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from propeller_fl.wire import Alive, Discovery, Liveness

_MAX_PROPLETS: Final = 200_000  # beyond it the one silent for longest is forgotten


class Presence(Enum):
    """What a message of a proplet means for its presence."""

    STAYED = auto()  # it was alive and is
    CAME = auto()  # the first sign of life since we, or the broker, started
    RETURNED = auto()  # it had been offline, or silent for too long
    LEFT = auto()


@dataclass(frozen=True, slots=True)
class Proplet:
    """One member, as it stands. ``silent_s`` is ``None`` when nothing is known of it lately."""

    proplet_id: str
    namespace: str
    metadata: Mapping[str, str]
    alive: bool
    silent_s: float | None


@dataclass(slots=True)
class _Member:
    discovery: Discovery
    heard_at_s: float | None = None
    offline: bool = False


class Fleet:
    """The proplets by id. A member is alive for ``liveness_timeout_s`` after each word of it,
    unless the word was ``offline``. Times are seconds of any clock that never goes back."""

    def __init__(self, liveness_timeout_s: float) -> None:
        self._timeout_s = liveness_timeout_s
        self._members: OrderedDict[str, _Member] = OrderedDict()  # latest heard last

    def restore(self, discovery: Discovery) -> None:
        """Recall a proplet from before a restart; it is not alive until it is heard."""
        self._members.setdefault(discovery.proplet_id, _Member(discovery))

    def created(self, discovery: Discovery, now_s: float) -> Presence:
        """A proplet introduced itself."""
        member = self._member(discovery.proplet_id, discovery.namespace)
        member.discovery = discovery
        return self._heard(member, now_s)

    def heard(self, alive: Alive, now_s: float) -> Presence:
        """A heartbeat, or the last will. A proplet never introduced is taken in as well."""
        member = self._member(alive.proplet_id, alive.namespace)
        if alive.status is Liveness.OFFLINE:
            member.offline = True
            return Presence.LEFT
        return self._heard(member, now_s)

    def doubt(self, before_s: float) -> None:
        """Count nobody as alive who was not heard after ``before_s``, until heard again."""
        for member in self._members.values():
            if member.heard_at_s is not None and member.heard_at_s <= before_s:
                member.heard_at_s = None

    def is_alive(self, proplet_id: str, now_s: float) -> bool:
        member = self._members.get(proplet_id)
        return member is not None and self._alive(member, now_s)

    def has_own_topics(self, proplet_id: str) -> bool:
        """Whether it announced that it listens on start and stop topics of its own."""
        member = self._members.get(proplet_id)
        metadata = member.discovery.metadata if member else {}
        return metadata.get("own_start_topic") == "true"

    def snapshot(self, now_s: float) -> tuple[Proplet, ...]:
        """All members by id."""
        return tuple(
            Proplet(
                proplet_id,
                member.discovery.namespace,
                dict(member.discovery.metadata),
                self._alive(member, now_s),
                None if member.heard_at_s is None else max(0.0, now_s - member.heard_at_s),
            )
            for proplet_id, member in sorted(self._members.items())
        )

    def count(self, now_s: float) -> dict[str, int]:
        """How many members are alive, and how many silent."""
        alive = sum(self._alive(member, now_s) for member in self._members.values())
        return {"alive": alive, "silent": len(self._members) - alive}

    def _member(self, proplet_id: str, namespace: str) -> _Member:
        member = self._members.get(proplet_id)
        if member is None:
            member = self._members[proplet_id] = _Member(Discovery(proplet_id, namespace))
            if len(self._members) > _MAX_PROPLETS:
                self._members.popitem(last=False)
        self._members.move_to_end(proplet_id)
        return member

    def _heard(self, member: _Member, now_s: float) -> Presence:
        if member.heard_at_s is None and not member.offline:
            presence = Presence.CAME
        elif self._alive(member, now_s):
            presence = Presence.STAYED
        else:
            presence = Presence.RETURNED
        member.heard_at_s = now_s
        member.offline = False
        return presence

    def _alive(self, member: _Member, now_s: float) -> bool:
        if member.offline or member.heard_at_s is None:
            return False
        return now_s - member.heard_at_s <= self._timeout_s
