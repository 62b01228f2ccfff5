"""The fleet as the page shows it. Pure: it learns from what proplets say and from the time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from propeller_fl.wire import Alive, Discovery, Liveness

_MAX_TEXT: Final = 120  # characters of a text that a proplet says about itself
_MAX_TASKS: Final = 32  # named of one proplet
_SHOWN: Final = {  # what is shown: the names it may have in a Discovery, ours first
    "runtime": ("runtime", "wasm_runtime"),
    "arch": ("arch", "cpu_arch"),
    "version": ("version", "proplet_version"),
    "os": ("os",),
}


@dataclass(slots=True)
class _Member:
    proplet_id: str
    namespace: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None
    heard_at_s: float | None = None
    offline: bool = False
    alive: bool = False
    tasks: dict[str, None] = field(default_factory=dict)  # under way, the oldest first
    done: int = 0
    failed: int = 0
    last_error: str = ""


class FleetView:
    """Proplets by id, at most ``keep`` of them: beyond that, who was silent for longest is gone."""

    def __init__(self, liveness_timeout_s: float, keep: int) -> None:
        self._timeout_s = liveness_timeout_s
        self._keep = keep
        self._members: OrderedDict[str, _Member] = OrderedDict()  # the latest heard last
        self._changed: dict[str, None] = {}
        self._beats: dict[str, None] = {}  # heard again, and nothing else is new
        self._gone: dict[str, None] = {}

    def created(self, discovery: Discovery, now_s: float) -> None:
        """A proplet introduced itself."""
        member = self._member(discovery.proplet_id)
        said = discovery.metadata
        member.namespace = discovery.namespace[:_MAX_TEXT]
        member.facts = {
            name: next((said[key][:_MAX_TEXT] for key in keys if said.get(key)), "")
            for name, keys in _SHOWN.items()
        }
        memory = said.get("memory_bytes") or said.get("total_memory_bytes") or ""
        member.memory_bytes = int(memory) if memory.isascii() and memory[:16].isdecimal() else None
        self._changed[member.proplet_id] = None
        self._heard(member, now_s)

    def heard(self, alive: Alive, now_s: float) -> None:
        """A heartbeat, or the last will."""
        member = self._member(alive.proplet_id)
        if alive.status is Liveness.OFFLINE:
            member.offline, member.alive = True, False
            self._changed[member.proplet_id] = None
            return
        self._heard(member, now_s)

    def task_began(self, proplet_id: str, task_id: str) -> None:
        """A task went out to it. Nobody is taken in who was never heard."""
        member = self._members.get(proplet_id)
        if member is not None and task_id not in member.tasks and len(member.tasks) < _MAX_TASKS:
            member.tasks[task_id] = None
            self._changed[proplet_id] = None

    def task_ended(self, proplet_id: str, task_id: str, error: str | None = None) -> None:
        """Its task is over; ``error`` says how, empty: well; ``None``: that is not known."""
        member = self._members.get(proplet_id)
        if member is None:
            return
        if member.tasks.pop(task_id, "") == "" and error is None:
            return
        member.done += error == ""
        if error:
            member.failed += 1
            member.last_error = error[:_MAX_TEXT]
        self._changed[proplet_id] = None

    def ticked(self, now_s: float) -> None:
        """Who has been silent for too long is not alive."""
        for member in self._members.values():  # the longest silent first
            if member.heard_at_s is None or now_s - member.heard_at_s > self._timeout_s:
                if member.alive:
                    member.alive = False
                    self._changed[member.proplet_id] = None
            else:
                break

    def snapshot(self) -> list[dict[str, Any]]:
        return [self._shown(member) for _, member in sorted(self._members.items())]

    def take_changes(self, most: int) -> dict[str, Any]:
        """What is new since the last call, for at most ``most`` proplets; the rest comes next."""
        changed = [self._changed.popitem()[0] for _ in range(min(most, len(self._changed)))]
        for proplet_id in changed:
            self._beats.pop(proplet_id, None)
        beats, self._beats = self._beats, {}
        gone, self._gone = list(self._gone), {}
        found: dict[str, Any] = {}
        shown = [self._shown(self._members[i]) for i in changed if i in self._members]
        if shown:
            found["proplets"] = shown
        if beats:
            members = (self._members[i] for i in beats if i in self._members)
            found["heard"] = {m.proplet_id: m.heard_at_s for m in members}
        if gone:
            found["proplets_gone"] = gone
        return found

    def _member(self, proplet_id: str) -> _Member:
        member = self._members.get(proplet_id)
        if member is None:
            member = self._members[proplet_id] = _Member(proplet_id)
            self._changed[proplet_id] = None
            self._gone.pop(proplet_id, None)
            if len(self._members) > self._keep:
                lost, _ = self._members.popitem(last=False)
                self._gone[lost] = None
        return member

    def _heard(self, member: _Member, now_s: float) -> None:
        self._members.move_to_end(member.proplet_id)
        (self._beats if member.alive else self._changed)[member.proplet_id] = None
        member.heard_at_s, member.offline, member.alive = now_s, False, True

    @staticmethod
    def _shown(member: _Member) -> dict[str, Any]:
        return {
            "id": member.proplet_id,
            "namespace": member.namespace,
            **{name: member.facts.get(name, "") for name in _SHOWN},
            "memory_bytes": member.memory_bytes,
            "alive": member.alive,
            "offline": member.offline,
            "heard_at_s": member.heard_at_s,
            "tasks": list(member.tasks),
            "done": member.done,
            "failed": member.failed,
            "last_error": member.last_error,
        }
