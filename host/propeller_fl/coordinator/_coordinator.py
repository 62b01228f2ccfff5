"""The thread around the engine: a link before it, the clock behind it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from propeller_fl.config import CoordinatorConfig, LargeConfig
from propeller_fl.coordinator._engine import Engine
from propeller_fl.coordinator._file_keeper import FileEnded, FileKeeper
from propeller_fl.coordinator._outbox import Outbox
from propeller_fl.coordinator._outgoing import (
    Ack,
    Outgoing,
    Publish,
    Subscribe,
    Tell,
    Unsubscribe,
)
from propeller_fl.errors import LinkError, LostLeadError, MessageError, StoreError
from propeller_fl.link import Incoming, Link, take_batch
from propeller_fl.observe import Watcher, nobody
from propeller_fl.store import RoundStore, StoreTrouble
from propeller_fl.wire import Topics

_log = logging.getLogger(__name__)

_BATCH: Final = 256  # messages in one transaction
_IDLE_S: Final = 1.0


class Coordinator:
    """Owns rounds, aggregation and model versions.

    ``link`` must not be started yet; ``start`` does that, once what it must not miss is subscribed.
    ``large`` and ``files_dir``, where the files of large updates are kept, are for models that
    travel in parts; without them none is trained. ``clock`` gives seconds since the epoch;
    deadlines survive a restart by it. ``watch`` hears what has become durable; ``on_failure`` is
    called on its thread when that ends by an error.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: CoordinatorConfig,
        store: RoundStore,
        *,
        clock: Callable[[], float] = time.time,
        large: LargeConfig | None = None,
        files_dir: Path | None = None,
        watch: Watcher = nobody,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._link = link
        self._topics = topics
        self._clock = clock
        self._watch = watch
        self._on_failure = on_failure
        self._store = store
        self._engine = Engine(topics, config, store, large if files_dir else None)
        self._inbox: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._files = (
            FileKeeper(link, topics, large, files_dir, lambda: self._inbox.put(None))
            if large and files_dir
            else None
        )
        self._connected_anew = threading.Event()
        self._outbox = Outbox(link, self._engine.owed)
        self._stopping = threading.Event()
        self._store_trouble = StoreTrouble(_log, self._stopping)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="coordinator")

    def start(self) -> None:
        """Take up what the store holds, then listen. Raises :class:`StoreError`."""
        self._engine.resume(self._clock())
        if self._files is not None:
            rounds = self._store.load_open_rounds()
            self._files.start(self._store.files, [r.opening.start.round_id for r in rounds])
        topics = self._topics
        for topic in (topics.round_start, topics.any_round_stop, topics.forwarded_updates):
            self._link.subscribe(topic, self._inbox.put)
        for topic in (topics.any_model, topics.any_launch):
            self._link.subscribe(topic, self._inbox.put, qos=0)  # all are retained
        self._link.on_up = self._on_up
        self._link.on_down = lambda _: self._inbox.put(None)  # who leads now? the store knows
        self._link.start()
        self._inbox.put(None)  # there may be something to do before anything arrives
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the batch at hand and end. The link is the caller's to close."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._files is not None:
            self._files.stop()

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has; nothing is handled any more."""
        return self._failure

    def count_rounds(self) -> dict[str, int]:
        """How many rounds are waiting, open and aggregating. Any thread."""
        return self._engine.count_rounds()

    @property
    def queued(self) -> int:
        """Messages that wait to be handled. Any thread."""
        return self._inbox.qsize()

    def _on_up(self, session_present: bool) -> None:
        """On the link's thread. A broker that knows our session may be one that was restored from
        what it had saved long before its end, so whether it does tells nothing."""
        self._connected_anew.set()
        self._inbox.put(None)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as err:
            if not isinstance(err, LostLeadError):  # which is no surprise, and said elsewhere
                _log.critical("the coordinator has stopped", exc_info=True)
            self._failure = err
            self._on_failure()

    def _serve(self) -> None:
        batch: list[Incoming] = []
        while not self._stopping.is_set():
            try:
                batch = batch or take_batch(self._inbox, self._patience_s(), _BATCH)
                if self._connected_anew.is_set():
                    self._connected_anew.clear()
                    self._engine.broker_returned()
                for owed_id in self._outbox.delivered():
                    self._engine.delivered(owed_id)
                self._hear_of_files()
                self._carry_out(self._engine.handle(batch, self._clock()))
                idle, batch = not batch, []
                self._tell_watcher()
                self._engine.aggregate_due(self._clock())
                self._tell_watcher()
                self._carry_out(self._engine.take_statuses(self._clock()))
                self._outbox.deliver()
                if idle and self._inbox.empty():
                    self._store.tidy()
            except StoreError as err:
                self._store_trouble.wait(err)
            else:
                self._store_trouble.over()

    def _tell_watcher(self) -> None:
        for fact in self._engine.take_facts():
            self._watch(fact)

    def _hear_of_files(self) -> None:
        for ended in self._files.take() if self._files is not None else ():
            if isinstance(ended, FileEnded):
                self._engine.file_ended(
                    ended.round_id, ended.proplet_id, ended.sha256, ended.reason, ended.detail
                )
            else:
                self._engine.model_ended(ended.round_id, ended.manifest, ended.detail)

    def _patience_s(self) -> float:
        return max(0.0, min(_IDLE_S, self._engine.due_in_s(self._clock())))

    def _carry_out(self, outgoing: Iterable[Outgoing]) -> None:
        told: list[tuple[str, bytes]] = []
        for one in outgoing:
            match one:
                case Ack(incoming):
                    incoming.ack()
                case Tell(topic, payload):
                    told.append((topic, payload))
                case Publish(topic, payload, retain):
                    self._say(partial(self._link.publish, topic, payload, retain=retain))
                case Subscribe(topic):
                    self._link.subscribe(topic, self._inbox.put, qos=0)
                case Unsubscribe(topic):
                    self._link.unsubscribe(topic)
                case _ if self._files is not None:
                    self._files.do(one)
        if told:
            self._say(partial(self._link.say, told))

    @staticmethod
    def _say(say: Callable[[], object]) -> None:
        try:
            say()
        except (LinkError, MessageError) as err:  # the link's queue is full, or it closes
            _log.warning("not said: %s", err)
