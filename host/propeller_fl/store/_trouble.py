"""What a service does while its store fails: it says so, waits, and tries again."""

from __future__ import annotations

import logging
import threading
from typing import Final

from propeller_fl.errors import StoreError
from propeller_fl.log import Trouble

_RETRY_S: Final = 1.0


class StoreTrouble:
    """Of one service, on its thread. ``log`` is the service's; ``stopping`` ends a wait."""

    def __init__(self, log: logging.Logger, stopping: threading.Event) -> None:
        self._log = log
        self._stopping = stopping
        self._trouble = Trouble()

    def wait(self, err: StoreError) -> bool:
        """Wait before the next try; false when told to stop meanwhile."""
        if self._trouble.is_news(str(err)):
            self._log.error("the store failed, trying again every %g s: %s", _RETRY_S, err)
        return not self._stopping.wait(_RETRY_S)

    def over(self) -> None:
        """The store has done what it was asked."""
        if self._trouble.is_over():
            self._log.info("the store works again")
