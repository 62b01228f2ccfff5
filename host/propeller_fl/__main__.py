"""``python -m propeller_fl`` is the command ``propeller-fl``."""

from __future__ import annotations

from propeller_fl.cli import main

main()
