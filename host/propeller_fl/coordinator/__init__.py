"""The owner of rounds: accepts updates, aggregates them, names the next model."""

from __future__ import annotations

from propeller_fl.coordinator._coordinator import Coordinator

__all__ = ["Coordinator"]
