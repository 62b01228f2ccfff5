"""Thousands of simulated proplets against real services: what a large fleet costs, and whether it
holds."""

from __future__ import annotations

from propeller_fl.fleet._plan import FleetPlan, RoundPlan
from propeller_fl.fleet._profiles import Spread, check_share, chosen, is_lost
from propeller_fl.fleet._proplet import Fate, Lose, SimulatedProplet, Train
from propeller_fl.fleet._run import FleetResult, FleetRound, check_ports, simulate
from propeller_fl.fleet._services import SERVICES, Usage

__all__ = [
    "SERVICES",
    "Fate",
    "FleetPlan",
    "FleetResult",
    "FleetRound",
    "Lose",
    "RoundPlan",
    "SimulatedProplet",
    "Spread",
    "Train",
    "Usage",
    "check_ports",
    "check_share",
    "chosen",
    "is_lost",
    "simulate",
]
