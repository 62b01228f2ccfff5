"""Publishes the parts that others ask for, a few at a time, from files."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl.errors import LinkError, MessageError
from propeller_fl.link import Delivery, Incoming, Link
from propeller_fl.log import Trouble
from propeller_fl.parts._serve import Serving
from propeller_fl.wire import Manifest, PartsWanted, Topics

_log = logging.getLogger(__name__)

_IN_FLIGHT: Final = 8  # parts in memory that the broker has not taken
_MAX_REQUESTS: Final = 1_024  # waiting; what is lost is asked for again
_ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Where the bytes of a part are."""

    path: Path
    place: range


def places_of(manifest: Manifest, path: Path) -> Iterator[tuple[str, PartPlace]]:
    """The parts of one file, by digest."""
    for index, sha256 in enumerate(manifest.parts):
        yield sha256, PartPlace(path, manifest.place(index))


class PartsServer:
    """Answers ``fl/parts/wanted`` with what ``find`` knows. A thread, and one subscription.

    What is not what its digest says is never published. Memory: a few parts.
    """

    def __init__(self, link: Link, topics: Topics, find: Callable[[str], PartPlace | None]) -> None:
        self._link = link
        self._topics = topics
        self._find = find
        self._requests: queue.Queue[bytes] = queue.Queue(_MAX_REQUESTS)
        self._serving = Serving()
        self._in_flight: deque[Delivery] = deque()
        self._stopping = threading.Event()
        self._trouble = Trouble()
        self._thread = threading.Thread(target=self._run, name="parts-server", daemon=True)
        self.last_asked_s = time.monotonic()
        """When somebody last asked for a part that we hold."""

    def start(self) -> None:
        """Raises :class:`LinkError` when the link is closed."""
        self._link.subscribe(self._topics.parts_wanted, self._take, qos=0)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _take(self, incoming: Incoming) -> None:
        if incoming.topic == self._topics.parts_wanted and not self._requests.full():
            self._requests.put(incoming.payload)
        incoming.ack()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen(patience_s=0.2)
                while not self._stopping.is_set() and (sha256 := self._next()) is not None:
                    self._send(sha256)
                    self._listen(patience_s=0.0)
            except LinkError as err:  # the queue is full, or the broker away: they ask again
                if self._trouble.is_news(str(err)):
                    _log.warning("parts wait: %s", err)
                self._stopping.wait(0.2)
            except Exception:
                _log.exception("a request for parts could not be answered")

    def _next(self) -> str | None:
        return self._serving.next(time.monotonic())

    def _listen(self, patience_s: float) -> None:
        """Hear all that is asked for by now."""
        while True:
            try:
                if patience_s:
                    payload = self._requests.get(timeout=patience_s)
                else:
                    payload = self._requests.get_nowait()
            except queue.Empty:
                return
            patience_s = 0.0
            try:
                wanted = PartsWanted.decode(payload)
            except MessageError as err:
                _log.warning("message on %s ignored: %s", self._topics.parts_wanted, err)
                continue
            held = [sha256 for sha256 in wanted.parts if self._find(sha256) is not None]
            if held:
                self.last_asked_s = time.monotonic()
                self._serving.wanted(held, self.last_asked_s)

    def _send(self, sha256: str) -> None:
        while len(self._in_flight) >= _IN_FLIGHT:
            self._in_flight[0].wait(_ANSWER_S)
            self._in_flight.popleft()
        data = self._read(sha256)
        if data is None:
            return
        self._in_flight.append(self._link.publish(self._topics.part(sha256), data))
        self._trouble.is_over()

    def _read(self, sha256: str) -> bytes | None:
        found = self._find(sha256)
        if found is None:
            return None
        try:
            with found.path.open("rb", buffering=0) as file:
                file.seek(found.place.start)
                data = file.read(len(found.place))
        except OSError as err:
            _log.error("a part of %s cannot be read: %s", found.path, err.strerror)
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            _log.error("%s is damaged: the part at %d is not sent", found.path, found.place.start)
            return None
        return data
