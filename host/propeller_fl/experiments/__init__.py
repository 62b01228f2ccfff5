"""Experiments: many rounds, one after the other, until a rule says that it is enough."""

from __future__ import annotations

from propeller_fl.experiments._machine import (
    BeginRound,
    Commanded,
    Experiment,
    FleetSeen,
    KeepCompletion,
    RoundEnded,
    RoundFailed,
    begin,
    restore,
    step,
)
from propeller_fl.experiments._service import ExperimentService
from propeller_fl.experiments._waiting import WaitingFor

__all__ = [
    "BeginRound",
    "Commanded",
    "Experiment",
    "ExperimentService",
    "FleetSeen",
    "KeepCompletion",
    "RoundEnded",
    "RoundFailed",
    "WaitingFor",
    "begin",
    "restore",
    "step",
]
