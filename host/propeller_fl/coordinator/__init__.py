"""The owner of rounds: accepts updates, aggregates them, names the next model."""

from __future__ import annotations

from propeller_fl.coordinator._collecting import FETCHES, Collecting, Job
from propeller_fl.coordinator._coordinator import Coordinator
from propeller_fl.coordinator._engine import ENDED_SAID_AGAIN, Engine
from propeller_fl.coordinator._file_keeper import FileEnded, FileKeeper, ModelEnded
from propeller_fl.coordinator._outgoing import (
    Ack,
    Collect,
    Discard,
    DropModel,
    MakeModel,
    Outgoing,
    Publish,
    ServeModel,
    Subscribe,
    Tell,
    Unsubscribe,
)
from propeller_fl.coordinator._reading import MAX_METRICS
from propeller_fl.coordinator._starts import MAX_OPEN, MAX_OPEN_PARTICIPANTS, MAX_WAITING
from propeller_fl.coordinator._turns import Turns

__all__ = [
    "ENDED_SAID_AGAIN",
    "FETCHES",
    "MAX_METRICS",
    "MAX_OPEN",
    "MAX_OPEN_PARTICIPANTS",
    "MAX_WAITING",
    "Ack",
    "Collect",
    "Collecting",
    "Coordinator",
    "Discard",
    "DropModel",
    "Engine",
    "FileEnded",
    "FileKeeper",
    "Job",
    "MakeModel",
    "ModelEnded",
    "Outgoing",
    "Publish",
    "ServeModel",
    "Subscribe",
    "Tell",
    "Turns",
    "Unsubscribe",
]
