"""Tells an embedded broker, in whichever process, that its users are others now."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from pathlib import Path

from ..errors import BrokerError
from ._asking import ask

PID_FILE = "broker.pid"
"""In its directory, while it runs."""

_RELOAD_S = 10.0
_POLL_S = 0.005


def reload_broker(data_dir: Path, timeout_s: float = _RELOAD_S) -> bool:
    """Have the embedded broker that runs on ``data_dir``, in whichever process, read its users,
    permissions and certificates again. Sessions of users that are gone are over by then.

    False when none runs there. BrokerError when it has not done so within ``timeout_s``, or
    refuses what it read.
    """
    pid_file, config = data_dir / PID_FILE, data_dir / "broker.conf"
    if not _is_held(data_dir / "broker.lock"):
        return False
    try:
        pid = int(pid_file.read_text())
        settings = config.read_text()
    except (OSError, ValueError):
        return False  # it is about to start, and will read the files as they are
    found = re.search(r'"http": "127\.0\.0\.1:([0-9]+)"', settings)
    before = _loaded_at(int(found[1])) if found else None
    if found is None or before is None:
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    deadline_s = time.monotonic() + timeout_s
    while _loaded_at(int(found[1])) == before:
        if time.monotonic() > deadline_s:
            raise BrokerError(
                f"the embedded broker has not taken its users up again within {timeout_s:g} s",
                hint=f"{data_dir / 'broker.log'} says why; end it, and it has to",
            )
        time.sleep(_POLL_S)
    return True


def _loaded_at(port: int) -> str | None:
    """When the server read its configuration last; None when it does not answer."""
    return ask(port, "/varz").get("config_load_time")


def _is_held(path: Path) -> bool:
    try:
        with path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
