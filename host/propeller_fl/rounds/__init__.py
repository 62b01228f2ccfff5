"""The round as a pure machine, and the rules that refuse an update."""

from __future__ import annotations

from propeller_fl.rounds._events import (
    Acknowledge,
    Aggregate,
    AggregationFailed,
    ClockTicked,
    Close,
    Effect,
    Event,
    KeepUpdate,
    ModelMade,
    Opening,
    Receipt,
    RecordRefusal,
    ShowStatus,
    UpdateArrived,
    UpdateFacts,
    UpdateUnreadable,
)
from propeller_fl.rounds._machine import Round, Transition, resume, step

__all__ = [
    "Acknowledge",
    "Aggregate",
    "AggregationFailed",
    "ClockTicked",
    "Close",
    "Effect",
    "Event",
    "KeepUpdate",
    "ModelMade",
    "Opening",
    "Receipt",
    "RecordRefusal",
    "Round",
    "ShowStatus",
    "Transition",
    "UpdateArrived",
    "UpdateFacts",
    "UpdateUnreadable",
    "resume",
    "step",
]
