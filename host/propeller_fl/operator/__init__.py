"""What an operator does with a running deployment, over the same topics as everyone else."""

from __future__ import annotations

from propeller_fl.operator._experiments import is_obeyed, parse_experiment
from propeller_fl.operator._operator import Operator, RoundEvent

__all__ = ["Operator", "RoundEvent", "is_obeyed", "parse_experiment"]
