"""The thread around the engine: a link before it, the clock behind it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from propeller_fl.errors import LinkError, MessageError, StoreError
from propeller_fl.experiments._engine import Engine, Hear, HearNoMore, Outgoing, Say
from propeller_fl.link import Incoming, Link, take_batch
from propeller_fl.store import ExperimentStore, StoreTrouble
from propeller_fl.wire import Topics

_log = logging.getLogger(__name__)

_BATCH: Final = 256  # messages in one transaction
_IDLE_S: Final = 1.0


class ExperimentService:
    """Runs experiments. It asks for rounds as an operator does, and knows nothing of how they are
    run.

    ``link`` must not be started yet; ``start`` does that, once what it must not miss is subscribed.
    Give it a persistent session. A proplet is alive for ``liveness_timeout_s`` after each word, of
    which there are three in that time; ``clock`` gives seconds since the epoch.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        store: ExperimentStore,
        *,
        liveness_timeout_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._topics = topics
        self._clock = clock
        self._engine = Engine(
            topics,
            store,
            liveness_timeout_s=liveness_timeout_s,
            settle_s=liveness_timeout_s / 3,
        )
        self._inbox: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._connected_anew = threading.Event()
        self._stopping = threading.Event()
        self._store_trouble = StoreTrouble(_log, self._stopping)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="experiments", daemon=True)

    def start(self) -> None:
        """Take up what the store holds, then listen. Raises :class:`StoreError`."""
        self._engine.resume()
        topics = self._topics
        for topic in (
            topics.experiment_start,
            topics.any_experiment_command,
            topics.proplet_create,
            topics.proplet_create_of("+"),
        ):
            self._link.subscribe(topic, self._inbox.put)
        for topic in (topics.proplet_alive, topics.proplet_alive_of("+")):
            self._link.subscribe(topic, self._inbox.put, qos=0)  # the next one says the same
        self._link.on_up = self._on_up
        self._link.start()
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the batch at hand and end; experiments go on where they are at the next start. The
        link and the store are the caller's to close."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has; nothing is handled any more."""
        return self._failure

    def _on_up(self, session_present: bool) -> None:
        self._connected_anew.set()
        self._inbox.put(None)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as err:
            _log.critical("the experiments' service has stopped", exc_info=True)
            self._failure = err

    def _serve(self) -> None:
        batch: list[Incoming] = []
        while not self._stopping.is_set():
            try:
                batch = batch or take_batch(self._inbox, self._patience_s(), _BATCH)
                self._answer_connection()
                self._carry_out(self._engine.handle(batch, self._clock()))
                for incoming in batch:
                    incoming.ack()
                batch = []
            except StoreError as err:
                self._store_trouble.wait(err)
            else:
                self._store_trouble.over()

    def _answer_connection(self) -> None:
        if not self._connected_anew.is_set():
            return
        self._connected_anew.clear()  # before: the next one may come meanwhile
        try:
            self._carry_out(self._engine.connected(self._clock()))
        except StoreError:
            self._connected_anew.set()
            raise

    def _patience_s(self) -> float:
        return min(_IDLE_S, self._engine.due_in_s(self._clock()))

    def _carry_out(self, outgoing: Iterable[Outgoing]) -> None:
        for one in outgoing:
            try:
                match one:
                    case Say(topic, payload, retain):
                        self._link.publish(topic, payload, retain=retain)
                    case Hear(topic):
                        self._link.subscribe(topic, self._inbox.put, qos=0)
                    case HearNoMore(topic):
                        self._link.unsubscribe(topic)
            except (LinkError, MessageError) as err:
                # Its queue is full, or it closes: rounds are asked for again, and the next status
                # replaces this one.
                _log.warning("not said: %s", err)
