"""What the engine wants done outside, once the transaction it rests on is durable.

None of it needs to succeed: a message that is not acknowledged comes again, proplets send again
until they are answered, and the next status replaces the last. What must arrive is owed in the
store instead (:meth:`Engine.owed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from propeller_fl.link import Incoming


@dataclass(frozen=True, slots=True)
class Ack:
    """The broker may forget this message."""

    incoming: Incoming


@dataclass(frozen=True, slots=True)
class Publish:
    """Say this; ``topic`` has its prefix."""

    topic: str
    payload: bytes = field(repr=False)
    retain: bool


@dataclass(frozen=True, slots=True)
class Tell:
    """Say this once, at QoS 0: who does not hear it will ask; ``topic`` has its prefix."""

    topic: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask the broker for what it retains on this topic, and hand it to the engine."""

    topic: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Enough of this topic."""

    topic: str


Outgoing = Ack | Publish | Tell | Subscribe | Unsubscribe
