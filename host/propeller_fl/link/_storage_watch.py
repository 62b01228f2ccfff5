"""Sees to it that a broker whose disk was full stores messages again once there is room.

When a write of nats-server fails, that stream takes nothing any more, room or not, until the server
starts again: publishers get no answer. Its health page says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import BrokerError
from ..log import Trouble
from ._asking import ask

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_ROOM_BYTES = 1024 * 1024  # that must be there before a restart is worth it


class StorageWatch:
    """A thread that calls ``restart`` when what it looks after cannot store, but could.

    ``port`` gives the server's HTTP port as it is now. ``restart`` may raise BrokerError.
    """

    def __init__(
        self, directory: Path, port: Callable[[], int], restart: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._port = port
        self._restart = restart
        self._trouble = Trouble()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-storage", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look no more; ``restart`` may be under way still."""
        self._stopping.set()

    def _run(self) -> None:
        due = False
        while not self._stopping.wait(_LOOK_EVERY_S):
            fault = storage_fault(self._port())
            if fault and self._trouble.is_news(fault):
                _log.error(
                    "the embedded broker stores nothing: %s (free some space on the disk of %s; "
                    "it goes on by itself, and what was sent is sent again)",
                    fault,
                    self._directory,
                )
            due = due or bool(fault)
            if not due or not has_room(self._directory):
                continue
            try:
                self._restart()
            except BrokerError as error:
                _log.error("the embedded broker cannot be started again yet: %s", error)
                continue
            due = False
            self._trouble.is_over()
            _log.info("there is room again: the embedded broker was started again")


def storage_fault(port: int) -> str:
    """Why the nats-server with this HTTP port stores nothing; empty if it does, or says nothing."""
    fault = str(ask(port, "/healthz").get("error", ""))
    return fault if "write error" in fault else ""


def has_room(directory: Path) -> bool:
    """Whether a file of a megabyte can be written there."""
    probe = directory / ".room"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return True
