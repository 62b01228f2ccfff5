"""What a service says to the system manager that started it, where one did (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def ready(status: str) -> None:
    """The service does its work now."""
    _notify(f"READY=1\nSTATUS={' '.join(status.split())}")


def alive() -> None:
    """Nothing hangs; for a watchdog, if one waits for it."""
    if "WATCHDOG_USEC" in os.environ:
        _notify("WATCHDOG=1")


def stopping() -> None:
    """The service was told to end, and does."""
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return  # nobody listens, or not in a way that we know
    address = f"\0{name[1:]}" if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.connect(address)
            to.sendall(state.encode())
    except OSError as err:
        _log.warning("the system manager is not told: %s", err.strerror)
