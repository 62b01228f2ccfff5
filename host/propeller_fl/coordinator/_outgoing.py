"""What the engine wants done outside, once the transaction it rests on is durable.

None of it needs to succeed: a message that is not acknowledged comes again, proplets send again
until they are answered, and the next status replaces the last. What must arrive is owed in the
store instead (:meth:`Engine.owed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from propeller_fl.link import Incoming
from propeller_fl.rounds import Round
from propeller_fl.wire import Manifest, UpdateManifest


class Ack(NamedTuple):
    """The broker may forget this message."""

    incoming: Incoming


@dataclass(frozen=True, slots=True)
class Publish:
    """Say this; ``topic`` has its prefix."""

    topic: str
    payload: bytes = field(repr=False)
    retain: bool


class Tell(NamedTuple):
    """Say this once, at QoS 0: who does not hear it will ask; ``topic`` has its prefix."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask the broker for what it retains on this topic, and hand it to the engine."""

    topic: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Enough of this topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Fetch the file of an update; ``sha256`` is that of the document that offers it. Tell
    :meth:`Engine.file_ended`."""

    update: UpdateManifest = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True)
class Discard:
    """A proplet's file is not wanted any more; without ``proplet_id`` all of the round's."""

    round_id: str
    proplet_id: str = ""


@dataclass(frozen=True, slots=True)
class MakeModel:
    """Make a model of the files of this round; tell :meth:`Engine.model_ended`."""

    round: Round = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServeModel:
    """Publish the parts of this round's model when they are asked for."""

    round_id: str
    manifest: Manifest = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropModel:
    """The model server has this round's model, or there is to be none: a file is not needed any
    more, nor one that is being made."""

    round_id: str


FileWork = Collect | Discard | MakeModel | ServeModel | DropModel
"""What is done with files, elsewhere."""

Outgoing = Ack | Publish | Tell | Subscribe | Unsubscribe | FileWork
