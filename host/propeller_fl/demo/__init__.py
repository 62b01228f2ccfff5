"""A whole deployment that trains on real digits and shows how it goes."""

from __future__ import annotations

from propeller_fl.demo._picture import draw_curve, drawing
from propeller_fl.demo._plan import DemoPlan, Partition
from propeller_fl.demo._run import DemoResult, RoundRow, run
from propeller_fl.demo._view import View, make_view

__all__ = [
    "DemoPlan",
    "DemoResult",
    "Partition",
    "RoundRow",
    "View",
    "draw_curve",
    "drawing",
    "make_view",
    "run",
]
