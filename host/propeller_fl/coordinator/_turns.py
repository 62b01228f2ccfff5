"""A coordinator that takes turns with another: it waits until it leads, and leads while it can.

Who leads is the database's to say. Only the leader has a session with the broker, under the name
that all of them share, so that a new leader is handed what the one before had not acknowledged;
and it begins with what the store holds, as after a crash.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from propeller_fl.coordinator._coordinator import Coordinator
from propeller_fl.errors import LinkError, LostLeadError, StoreError
from propeller_fl.link import Link
from propeller_fl.store import RoundStore, StoreTrouble

_log = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 0.5  # whether we may lead now


MakeCoordinator = Callable[[Link, RoundStore, Callable[[], None]], Coordinator]
"""What it is given last is called, on the coordinator's thread, when that fails."""


class Turns:
    """One member of a pair, or of more, which makes itself anew for each turn.

    ``files_id`` names the directory of large files that all of them share, and is empty where there
    is none. What it has may be read by any thread.
    """

    def __init__(
        self,
        make_store: Callable[[], RoundStore],
        make_link: Callable[[], Link],
        make_coordinator: MakeCoordinator,
        files_id: str = "",
    ) -> None:
        self._make_store = make_store
        self._make_link = make_link
        self._make_coordinator = make_coordinator
        self._files_id = files_id
        self._name = f"{socket.gethostname()}, process {os.getpid()}"
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._store_trouble = StoreTrouble(_log, self._stopping)
        self._placed = threading.Event()  # it leads or stands by
        self._amiss = "not connected"
        self._leading: tuple[Link, Coordinator] | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="coordinator-turns")

    def start(self) -> None:
        """Find a place, and keep at it until ``stop``."""
        self._thread.start()

    def wait_placed(self, timeout_s: float) -> None:
        """Return once it stands by, or leads and is connected. :class:`LinkError` if that takes
        long; it goes on trying."""
        if not self._placed.wait(timeout_s):
            raise LinkError(f"the coordinator's database: {self._amiss}")
        leading = self._leading
        if leading is not None:
            leading[0].wait_connected(timeout_s)

    def stop(self) -> None:
        """Finish what is at hand, and hand over."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def failure(self) -> Exception | None:
        """The error that ended it, if one has."""
        return self._failure

    @property
    def leads(self) -> bool:
        return self._leading is not None

    @property
    def amiss(self) -> str:
        """What is wrong with the database, or nothing."""
        return self._amiss

    @property
    def session(self) -> Link | None:
        """A leader's session with the broker."""
        leading = self._leading
        return leading[0] if leading else None

    @property
    def queued(self) -> int:
        """Messages that wait to be handled."""
        leading = self._leading
        return leading[1].queued if leading else 0

    def count_rounds(self) -> dict[str, int]:
        """How many rounds are waiting, open and aggregating; nothing while another knows."""
        leading = self._leading
        return leading[1].count_rounds() if leading else {}

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._take_turn()
                except LostLeadError as err:
                    self._amiss = "not connected"
                    _log.warning("no longer leading: %s", err)
                except StoreError as err:
                    self._amiss = str(err)
                    self._store_trouble.wait(err)
        except Exception as err:
            _log.critical("the coordinator has stopped", exc_info=True)
            self._failure = err

    def _take_turn(self) -> None:
        with ExitStack() as stack:
            store = self._make_store()
            stack.callback(store.close)
            self._store_trouble.over()
            if self._wait_for_lead(store):
                self._lead(store)

    def _wait_for_lead(self, store: RoundStore) -> bool:
        """False when told to stop."""
        waits = False
        while not store.take_lead(self._name, self._files_id):
            self._amiss = ""
            self._placed.set()
            if not waits:
                _log.info("standing by: another coordinator leads")
                waits = True
            if self._stopping.wait(_ASK_EVERY_S):
                return False
        self._amiss = ""
        return not self._stopping.is_set()

    def _lead(self, store: RoundStore) -> None:
        """Until told to stop, or the lead is lost, or something worse."""
        _log.info("leading")
        self._wake.clear()
        link = self._make_link()
        coordinator = self._make_coordinator(link, store, self._wake.set)
        self._leading = link, coordinator
        self._placed.set()
        try:
            coordinator.start()
            while not self._stopping.is_set() and coordinator.failure is None:
                self._wake.wait()
                self._wake.clear()
            if coordinator.failure is not None:
                raise coordinator.failure
        except BaseException:
            link.abort()  # nothing of what is queued may be said any more
            raise
        finally:
            coordinator.stop()
            self._leading = None
            link.close()
