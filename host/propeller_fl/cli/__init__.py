"""The command line: parses, calls, prints. One file a command group; no logic lives here."""

from __future__ import annotations

from propeller_fl.cli._main import main

__all__ = ["main"]
