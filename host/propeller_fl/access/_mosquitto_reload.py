"""Tells a running mosquitto that its users are others now, and waits until it knows."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl.access._credential import Credential
from propeller_fl.errors import BrokerError
from propeller_fl.link import BrokerAddress, opens_session

_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Login:
    """A credential, and whether the broker ought to know it."""

    credential: Credential
    valid: bool


def reload_mosquitto(directory: Path, port: int, login: Login | None, timeout_s: float) -> None:
    """Have the one that runs from ``directory`` read its files again; none may run. It is at
    ``port`` of this machine, and ``login`` is one that the change is about.

    Raises :class:`BrokerError` where it cannot be told, or goes on as before.
    """
    try:
        pid = int((directory / "mosquitto.pid").read_text())
        if _runs_mosquitto(pid):
            os.kill(pid, signal.SIGHUP)
            _await(port, login, timeout_s)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return  # it does not run, and will read the files as they are
    except PermissionError as err:
        raise BrokerError(
            "the running mosquitto is another user's, and keeps its old users until it is told",
            hint="as root: kill -HUP with the number in mosquitto/mosquitto.pid",
        ) from err


def _await(port: int, login: Login | None, timeout_s: float) -> None:
    """It says nothing when it has read its files again; whom it lets in tells."""
    if login is None:
        return
    deadline_s = time.monotonic() + timeout_s
    address = login.credential.address(BrokerAddress("127.0.0.1", port))
    while opens_session(address) is not login.valid:
        if time.monotonic() > deadline_s:
            raise BrokerError(
                f"mosquitto has not taken its users up again within {timeout_s:g} s",
                hint="its log says why; end it, and it has to",
            )
        time.sleep(_POLL_S)


def _runs_mosquitto(pid: int) -> bool:
    """Whether this process is one; another may have its number by now."""
    try:
        return b"mosquitto" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return not Path("/proc/self").exists()  # where there is no such folder, believe the file
