"""A proplet that has the devices of its own deployment train, and answers with their mean."""

from __future__ import annotations

from propeller_fl.aggregator._aggregator import Aggregator
from propeller_fl.aggregator._devices import Devices
from propeller_fl.aggregator._errand import SLOTS, Errand, errand_of, local_start, update_of
from propeller_fl.aggregator._local_runs import LocalRuns

__all__ = [
    "SLOTS",
    "Aggregator",
    "Devices",
    "Errand",
    "LocalRuns",
    "errand_of",
    "local_start",
    "update_of",
]
