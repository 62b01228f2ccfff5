"""The devices of this deployment: who is alive, the model for them, and a word to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from propeller_fl.config import AggregatorConfig
from propeller_fl.errors import MessageError, RequestError
from propeller_fl.link import Incoming, Link
from propeller_fl.manager import Fleet
from propeller_fl.wire import Alive, Discovery, RoundStart, TaskStop, Topics

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LOOK_S: Final = 0.25
_TAKEN_S: Final = 30.0


class Devices:
    """Hears them by ``link``, which has not been started. Any thread."""

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: AggregatorConfig,
        liveness_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._topics = topics
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._fleet = Fleet(liveness_timeout_s)
        self._listening_since_s = clock()

    def start(self) -> None:
        """Listen. The link is the caller's to close."""
        topics = self._topics
        for topic in (topics.proplet_create, topics.proplet_create_of("+")):
            self._link.subscribe(topic, self._on_create)
        for topic in (topics.proplet_alive, topics.proplet_alive_of("+")):
            self._link.subscribe(topic, self._on_alive, qos=0)  # the next one says the same
        self._link.on_up = self._on_up
        self._link.start()

    def alive(self) -> list[str]:
        """The ids of those who are, in order."""
        with self._lock:
            return [one.proplet_id for one in self._fleet.snapshot(self._clock()) if one.alive]

    def gather(self, stop: threading.Event) -> list[str]:
        """Those who are alive, once we have listened for long enough to know: until all are there,
        or for ``gather_s`` since we listen, and as long again if they are too few.

        Raises :class:`RequestError` when ``stop`` is set meanwhile.
        """
        asked_s = self._clock()
        while True:
            alive, now_s = self.alive(), self._clock()
            if 0 < self._config.devices <= len(alive):
                return alive
            since_s = self._listening_since_s
            if len(alive) < self._config.min_local:
                since_s = max(since_s, asked_s)
            if now_s - since_s >= self._config.gather_s:
                return alive
            if stop.wait(_LOOK_S):
                raise RequestError("the round upstream has ended")

    def offer(self, uri: str, document: bytes) -> None:
        """Have the model on the topic ``uri``, retained. Raises :class:`LinkError`."""
        self._link.publish(self._topics.absolute(uri), document, retain=True).wait(_TAKEN_S)

    def ask(self, start: RoundStart) -> None:
        """Ask for a round of theirs; again is harmless. Raises :class:`LinkError`."""
        self._link.publish(self._topics.round_start, start.encode()).wait(_TAKEN_S)

    def stop_tasks(self, round_id: str, proplet_ids: Iterable[str]) -> None:
        """Nobody wants any more what they do for this round. Raises :class:`LinkError`."""
        for proplet_id in proplet_ids:
            stop = TaskStop(f"{round_id}.{proplet_id}", proplet_id)
            self._link.publish(self._topics.task_stop_of(proplet_id), stop.encode())

    def _on_up(self, session_present: bool) -> None:
        with self._lock:
            self._listening_since_s = self._clock()

    def _on_create(self, incoming: Incoming) -> None:
        discovery = self._of_speaker(incoming, Discovery.decode)
        if discovery is not None:
            with self._lock:
                self._fleet.created(discovery, self._clock())
        incoming.ack()

    def _on_alive(self, incoming: Incoming) -> None:
        alive = self._of_speaker(incoming, Alive.decode)
        if alive is not None:
            with self._lock:
                self._fleet.heard(alive, self._clock())
        incoming.ack()

    def _of_speaker(self, incoming: Incoming, decode: Callable[[bytes], _T]) -> _T | None:
        """What was said, unless it is in the name of another proplet than the topic's."""
        try:
            said, speaker = decode(incoming.payload), self._topics.parse_speaker(incoming.topic)
        except MessageError as err:
            _log.warning("message on %s ignored: %s", incoming.topic, err)
            return None
        name = getattr(said, "proplet_id", None)
        if speaker not in (None, name):
            _log.warning("message on %s ignored: it names %s", incoming.topic, name)
            return None
        return said
