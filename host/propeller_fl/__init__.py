"""Federated learning that runs on microcontrollers as well as on desktops."""

from __future__ import annotations

__version__ = "0.1.0"
