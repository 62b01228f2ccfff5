"""What can happen to a round, and what it wants done about it.

What there is one of for each update is a tuple, which is made in a third of the time that a frozen
dataclass takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from propeller_fl.wire import Outcome, RoundStart, Shapes


class UpdateFacts(NamedTuple):
    """All the rules need to know of an update; the arrays themselves stay outside.

    ``sha256`` and ``size_bytes`` are those of the document. ``proplet_id`` is the identity that
    counts: the topic's. ``in_parts``: the document is a manifest, and ``size_bytes`` its file's.
    """

    round_id: str
    proplet_id: str
    base_model_uri: str
    num_samples: int
    shapes: Shapes
    sha256: str
    size_bytes: int
    in_parts: bool = False


# --- events


class UpdateArrived(NamedTuple):
    """A well-formed update has arrived."""

    update: UpdateFacts


@dataclass(frozen=True, slots=True)
class UpdateOffered:
    """A well-formed manifest has arrived, of an update that is a file."""

    update: UpdateFacts


@dataclass(frozen=True, slots=True)
class FileArrived:
    """The file that a proplet has offered with the document ``sha256`` is here, whole, and what it
    should be."""

    proplet_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRefused:
    """It is here, and is not."""

    proplet_id: str
    sha256: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class UpdateUnreadable:
    """Bytes that should have been an update were refused before they came here."""

    proplet_id: str
    sha256: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ClockTicked:
    """The time now, in seconds since the epoch."""

    now_s: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody who may has ended the round; ``detail`` says who and why."""

    detail: str


@dataclass(frozen=True, slots=True)
class TasksFailed:
    """The tasks of these proplets have failed, for these errors, and are not tried again. It is all
    that is known now: who is not named any more has done it after all."""

    errors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelMade:
    """The aggregate exists as global model ``version``."""

    version: int


@dataclass(frozen=True, slots=True)
class AggregationFailed:
    """No model can be made of the updates; ``detail`` says why."""

    detail: str


Event = (
    UpdateArrived
    | UpdateOffered
    | FileArrived
    | FileRefused
    | UpdateUnreadable
    | ClockTicked
    | Stopped
    | TasksFailed
    | ModelMade
    | AggregationFailed
)


# --- effects, to be carried out in order


class KeepUpdate(NamedTuple):
    """Make the update durable before anything that follows."""

    update: UpdateFacts


@dataclass(frozen=True, slots=True)
class FetchFile:
    """Make the offer durable, and fetch its file; answer with FileArrived or FileRefused."""

    update: UpdateFacts


@dataclass(frozen=True, slots=True)
class DropFile:
    """What this proplet has offered is not wanted any more."""

    proplet_id: str


@dataclass(frozen=True, slots=True)
class RecordRefusal:
    """Make it durable that this was refused and why."""

    proplet_id: str
    reason: str
    detail: str


class Acknowledge(NamedTuple):
    """Tell the proplet; ``reason`` is empty when its update was accepted."""

    proplet_id: str
    sha256: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Average the kept updates of these proplets; answer with ModelMade or AggregationFailed."""

    proplet_ids: tuple[str, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Close:
    """The round has ended; publish its completion."""

    outcome: Outcome
    version: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """What an onlooker sees has changed."""


Effect = (
    KeepUpdate | FetchFile | DropFile | RecordRefusal | Acknowledge | Aggregate | Close | ShowStatus
)


class Receipt(NamedTuple):
    """An accepted update, as the round remembers it."""

    sha256: str
    num_samples: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What a round is opened with: the request, its times, and the shapes of its base model and
    the digest of that model's document (empty in rounds opened by a program that kept none).
    ``in_parts``: that document is a manifest, and so are the updates."""

    start: RoundStart
    opened_at_s: float
    base_shapes: Mapping[str, tuple[int, ...]]
    base_sha256: str = ""
    in_parts: bool = False
    participants: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "participants", frozenset(self.start.participants))

    @property
    def deadline_at_s(self) -> float:
        return self.opened_at_s + self.start.timeout_s
