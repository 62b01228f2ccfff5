"""What services tell whoever watches them: facts, once they are durable.

A service is given a :data:`Watcher` and calls it; it knows nothing of metrics or traces. A watcher
is called on the service's own thread, so it does little, never blocks and never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """A round takes updates; ``opened_at_s`` as its record has it."""

    round_id: str
    opened_at_s: float


@dataclass(frozen=True, slots=True)
class RoundRefused:
    """A round that was asked for is not opened."""

    round_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class UpdatesAccepted:
    """So many updates count. ``size_bytes`` of all, as they travelled; of a large one, its file."""

    round_id: str
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """A proplet, if one is named, is told that its update does not count."""

    round_id: str
    proplet_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AggregationBegun:
    """A round has the updates of which its model is made; said again after a restart."""

    round_id: str


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round has ended, and its completion is owed to the broker."""

    round_id: str
    outcome: str
    opened_at_s: float
    num_updates: int


@dataclass(frozen=True, slots=True)
class TaskSent:
    """The broker has a proplet's task of a round."""

    round_id: str
    proplet_id: str


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A proplet says how its task ended; ``error`` is empty where it went well."""

    task_id: str
    proplet_id: str
    error: str


@dataclass(frozen=True, slots=True)
class ModuleRan:
    """A proplet of this process has run a module for ``duration_s``; ``round_id`` may be empty."""

    round_id: str
    proplet_id: str
    duration_s: float
    error: str


@dataclass(frozen=True, slots=True)
class ModelStored:
    """A model is on disk. ``size_bytes`` of its arrays' file where it is a large one."""

    version: int
    size_bytes: int


Fact = (
    RoundOpened
    | RoundRefused
    | UpdatesAccepted
    | UpdateRefused
    | AggregationBegun
    | RoundEnded
    | TaskSent
    | TaskEnded
    | ModuleRan
    | ModelStored
)

Watcher = Callable[[Fact], None]
"""Hears of each fact when it has just become one."""


def nobody(fact: Fact) -> None:
    """Watches nothing."""
