"""The shell around the launcher: messages in, store and messages out.

One thread owns launcher, fleet and store. What has arrived is handled as a batch: the changes it
makes are one transaction, then its effects are carried out, then its messages are acknowledged.
If the store fails, the batch waits, and its messages stay with the broker meanwhile. Updates take
another way, on a thread of their own.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from propeller_fl.config import ManagerConfig
from propeller_fl.errors import (
    DamagedStoreError,
    ImageError,
    LinkError,
    MessageError,
    RegistryError,
    StoreError,
)
from propeller_fl.link import Incoming, Link
from propeller_fl.manager._effects import (
    Effect,
    FetchImage,
    PublishImage,
    SendStop,
    SendTask,
    ShowLastReport,
    ShowReport,
)
from propeller_fl.manager._fleet import Fleet, Proplet
from propeller_fl.manager._forward import ForwardCounts, Forwarder
from propeller_fl.manager._images import ImageLibrary
from propeller_fl.manager._launch import Launcher
from propeller_fl.manager._outbox import Message, Outbox
from propeller_fl.manager._registry import ImageRegistry
from propeller_fl.observe import TaskEnded, TaskSent, Watcher, nobody
from propeller_fl.store import LaunchStore, StoreTrouble
from propeller_fl.store._launches import LaunchChange
from propeller_fl.wire import (
    Alive,
    Discovery,
    LaunchReport,
    Reason,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskResult,
    Topics,
)

_log = logging.getLogger(__name__)

_BATCH: Final = 256  # messages in one transaction
_RETRY_LINK_S: Final = 0.05
_REPORT_AFTER_S: Final = 0.1  # a launch that goes well is one report
_REPORT_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Job:
    """Something that happened; ``incoming`` is acknowledged once that is durable."""

    handle: Callable[[], list[Effect]]
    incoming: Incoming | None = None


class Manager:
    """Launches one task per participant, and forwards the updates. Knows nothing of learning.

    ``link`` must not be started yet; ``start`` does that, once what it must not miss is subscribed.
    Give it a persistent session. ``clock`` gives seconds that never go back; ``images`` defaults to
    what the settings map and this machine has. ``watch`` hears of tasks and refused updates.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: ManagerConfig,
        store: LaunchStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        images: ImageLibrary | None = None,
        watch: Watcher = nobody,
    ) -> None:
        self._link = link
        self._topics = topics
        self._store = store
        self._clock = clock
        self._watch = watch
        self._images = images or ImageLibrary(config.images)
        self._fleet = Fleet(config.liveness_timeout_s)
        self._launches = config.launch
        self._launcher = Launcher(self._fleet, config.task_env)
        self._lock = threading.Lock()  # guards the fleet, which others may look at
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._outbox = Outbox(link)
        self._forwarder = Forwarder(link, topics, watch)
        self._registry = ImageRegistry(link, topics, self._images, config.chunk_bytes)
        self._fetch_due: dict[str, tuple[float, FetchImage]] = {}  # by round id
        self._due_s: dict[str, float] = {}  # reports to be published, by round id
        self._shown_s: dict[str, float] = {}  # when one was last
        self._down_at_s = float("-inf")
        self._stopping = threading.Event()
        self._store_trouble = StoreTrouble(_log, self._stopping)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="manager", daemon=True)

    def start(self) -> None:
        """Take up what the store holds, then listen. Raises :class:`StoreError`."""
        if self._launches:
            launches, proplets = self._store.unfinished(), self._store.proplets()
            self._inbox.put(_Job(lambda: self._launcher.resume(launches, proplets)))
            self._listen()
        self._link.subscribe(self._topics.any_update, self._forwarder.take)
        self._link.on_up = self._on_up
        self._link.on_down = self._on_down
        self._forwarder.start()
        self._registry.start()
        self._thread.start()
        self._link.start()

    def _listen(self) -> None:
        """To all that launching takes."""
        topics = self._topics
        for topic, handle in (
            (topics.round_start, self._on_start),
            (topics.proplet_create, self._on_create),
            (topics.proplet_alive, self._on_alive),
            (topics.proplet_results, self._on_result),
            (topics.proplet_create_of("+"), self._on_create),
            (topics.proplet_alive_of("+"), self._on_alive),
            (topics.proplet_results_of("+"), self._on_result),
        ):
            self._link.subscribe(topic, functools.partial(self._take, handle))
        for topic, handle in (  # of these, hundreds may be retained
            (topics.any_status, self._on_status),
            (topics.any_complete, self._on_complete),
        ):
            self._link.subscribe(topic, functools.partial(self._take, handle), qos=0)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the batch at hand and end. The link and the store are the caller's to close."""
        self._stopping.set()
        self._inbox.put(None)
        self._forwarder.stop(timeout_s)
        self._registry.stop(timeout_s)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def run(self) -> None:
        """``start``, then return when another thread calls ``stop``. Raises what ended it."""
        self.start()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has; nothing is launched any more."""
        return self._failure

    def fleet(self) -> tuple[Proplet, ...]:
        """Every proplet it knows, by id. Any thread."""
        with self._lock:
            return self._fleet.snapshot(self._clock())

    def count_proplets(self) -> dict[str, int]:
        """How many it knows, alive and silent. Any thread."""
        with self._lock:
            return self._fleet.count(self._clock())

    @property
    def queued(self) -> int:
        """What waits to be handled, updates left out. Any thread."""
        return self._inbox.qsize()

    @property
    def updates_queued(self) -> int:
        """Updates that wait to be forwarded. Any thread."""
        return self._forwarder.queued

    def forwarded(self) -> ForwardCounts:
        """What became of the updates. Any thread."""
        return self._forwarder.counts()

    # --- on the link's thread

    def _take(self, handle: Callable[[Incoming, float], list[Effect]], incoming: Incoming) -> None:
        self._inbox.put(_Job(functools.partial(handle, incoming, self._clock()), incoming))

    def _on_up(self, session_present: bool) -> None:
        down_at_s = self._down_at_s
        if session_present:
            self._inbox.put(_Job(self._launcher.broker_returned))
        else:
            self._inbox.put(_Job(lambda: self._launcher.broker_forgot(down_at_s)))

    def _on_down(self, error: LinkError) -> None:
        self._down_at_s = self._clock()

    # --- the thread

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._work_off(batch)
                self._fetch_what_is_due()
                self._show_reports()
                self._outbox.pump()
        except Exception as err:
            _log.critical("the manager has stopped", exc_info=True)
            self._failure = err

    def _next_batch(self) -> list[_Job] | None:
        """What has arrived, perhaps nothing when something else is due; ``None`` to end."""
        batch: list[_Job] = []
        try:
            job = self._inbox.get(timeout=self._patience_s())
            while job is not None:
                batch.append(job)
                if len(batch) == _BATCH:
                    break
                job = self._inbox.get_nowait()
        except queue.Empty:
            pass
        return None if self._stopping.is_set() and not batch else batch

    def _patience_s(self) -> float | None:
        if self._stopping.is_set():
            return 0.0
        due = [at_s - time.monotonic() for at_s in self._due_s.values()]
        due += [at_s - time.monotonic() for at_s, _ in self._fetch_due.values()]
        if self._outbox.held:
            due.append(_RETRY_LINK_S)
        return max(0.0, min(due)) if due else None

    def _work_off(self, batch: list[_Job]) -> None:
        effects: list[Effect] = []
        for job in batch:
            done = self._handle(job)
            if done is None:
                return
            effects += done
        if not self._save([effect for effect in effects if isinstance(effect, LaunchChange)]):
            return
        for effect in effects:
            self._carry_out(effect)
        for job in batch:
            if job.incoming is not None:
                job.incoming.ack()

    def _handle(self, job: _Job) -> list[Effect] | None:
        """The effects of one job; ``None`` when told to stop while the store fails."""
        topic = job.incoming.topic if job.incoming else ""
        while True:
            try:
                with self._lock:
                    return job.handle()
            except MessageError as err:
                _log.warning("message on %s refused: %s", topic, err, extra={"topic": topic})
                return []
            except StoreError as err:  # it is asked before anything changes
                if not self._store_trouble.wait(err):
                    return None
            except DamagedStoreError:
                raise
            except Exception:  # what nobody thought of must not come back for ever
                _log.exception(
                    "message on %s could not be handled, and is skipped",
                    topic,
                    extra={"topic": topic},
                )
                return []

    def _save(self, changes: list[LaunchChange]) -> bool:
        """Make durable, however long that takes; false when told to stop first."""
        while changes:
            try:
                self._store.commit(changes)
            except StoreError as err:
                if not self._store_trouble.wait(err):
                    return False
            else:
                break
        if changes:
            self._store_trouble.over()
        return True

    # --- messages

    def _on_start(self, incoming: Incoming, now_s: float) -> list[Effect]:
        start = RoundStart.decode(incoming.payload)
        return self._launcher.started(start, self._store.closed_start(start.round_id))

    def _on_status(self, incoming: Incoming, now_s: float) -> list[Effect]:
        status = RoundStatus.decode(incoming.payload)
        if incoming.topic != self._topics.status(status.round_id):
            _log.warning(
                "status of %s on %s ignored",
                status.round_id,
                incoming.topic,
                extra={"topic": incoming.topic},
            )
            return []
        return self._launcher.status_changed(status)

    def _on_complete(self, incoming: Incoming, now_s: float) -> list[Effect]:
        complete = RoundComplete.decode(incoming.payload)
        if incoming.retained or incoming.topic != self._topics.complete(complete.round_id):
            return []  # a retained one may be of an earlier life of this id; its status tells
        return self._launcher.completed(complete.round_id)

    def _on_create(self, incoming: Incoming, now_s: float) -> list[Effect]:
        discovery = Discovery.decode(incoming.payload)
        self._check_speaker(incoming.topic, discovery.proplet_id)
        return self._launcher.proplet_created(discovery, now_s)

    def _on_alive(self, incoming: Incoming, now_s: float) -> list[Effect]:
        alive = Alive.decode(incoming.payload)
        self._check_speaker(incoming.topic, alive.proplet_id)
        return self._launcher.proplet_heard(alive, now_s)

    def _on_result(self, incoming: Incoming, now_s: float) -> list[Effect]:
        result = TaskResult.decode(incoming.payload)
        speaker = self._check_speaker(incoming.topic, result.proplet_id)
        if speaker is not None:  # the message need not say
            result = replace(result, proplet_id=speaker)
        self._watch(TaskEnded(result.task_id, result.proplet_id, result.error))
        return self._launcher.result_arrived(result)

    def _check_speaker(self, topic: str, proplet_id: str) -> str | None:
        """Who speaks on a topic of its own, which a broker keeps for it: for nobody else."""
        speaker = self._topics.parse_speaker(topic)
        if speaker is not None and proplet_id not in ("", speaker):
            raise MessageError(
                Reason.IDENTITY,
                f"proplet_id is {proplet_id!r} in the message and {speaker!r} in its topic",
                field="proplet_id",
            )
        return speaker

    # --- effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case FetchImage(round_id, after_s=after_s):
                self._fetch_due[round_id] = time.monotonic() + after_s, effect
            case PublishImage(round_id, image):
                self._registry.offer(image)
                message = Message(self._topics.image(image.sha256), image.data, retain=True)
                self._outbox.add(
                    lambda: message,
                    sent=lambda: self._later(
                        lambda: self._launcher.image_published(round_id, self._clock())
                    ),
                    failed=lambda error: self._later(
                        lambda: self._launcher.image_refused(round_id, error)
                    ),
                )
            case SendTask(round_id, proplet_id):
                self._outbox.add(
                    lambda: self._task(round_id, proplet_id),
                    sent=lambda: self._later(lambda: self._task_sent(round_id, proplet_id)),
                    failed=lambda error: self._later(
                        lambda: self._launcher.task_failed(round_id, proplet_id, error)
                    ),
                )
            case SendStop(stop, own_topic):
                topic = (
                    self._topics.task_stop_of(stop.proplet_id)
                    if own_topic
                    else self._topics.task_stop
                )
                message = Message(topic, stop.encode())
                self._outbox.add(lambda: message)
            case ShowReport(round_id):
                shown_s = self._shown_s.get(round_id, float("-inf"))
                due_s = max(time.monotonic() + _REPORT_AFTER_S, shown_s + _REPORT_EVERY_S)
                self._due_s.setdefault(round_id, due_s)
            case ShowLastReport(report):
                self._due_s.pop(report.round_id, None)
                self._shown_s.pop(report.round_id, None)
                self._show(report)

    def _task(self, round_id: str, proplet_id: str) -> Message | None:
        wanted = self._launcher.task(round_id, proplet_id)
        if wanted is None:
            return None
        task, own_topic = wanted
        topic = self._topics.task_start_of(proplet_id) if own_topic else self._topics.task_start
        return Message(topic, task.encode())

    def _task_sent(self, round_id: str, proplet_id: str) -> list[Effect]:
        self._watch(TaskSent(round_id, proplet_id))
        return self._launcher.task_sent(round_id, proplet_id)

    def _fetch_what_is_due(self) -> None:
        now_s = time.monotonic()
        for round_id in [r for r, (due_s, _) in self._fetch_due.items() if due_s <= now_s]:
            _, wanted = self._fetch_due.pop(round_id)
            threading.Thread(
                target=self._fetch, args=[wanted], name="manager-image", daemon=True
            ).start()

    def _fetch(self, wanted: FetchImage) -> None:
        """On a thread of its own: a source may be slow."""
        round_id = wanted.round_id
        try:
            image = self._images.fetch(wanted.reference, wanted.sha256)
        except ImageError as err:
            error = str(err)
            after_s = err.again_after_s if isinstance(err, RegistryError) else 0.0
            self._later(lambda: self._launcher.image_failed(round_id, error, after_s))
        except Exception as err:  # else the round would wait in silence
            _log.exception("an image cannot be fetched", extra={"round_id": round_id})
            said = f"internal error, {type(err).__name__}: {err}; see the manager's log"
            self._later(lambda: self._launcher.image_failed(round_id, said))
        else:
            self._later(lambda: self._launcher.image_fetched(round_id, image))

    def _later(self, handle: Callable[[], list[Effect]]) -> None:
        """Any thread."""
        self._inbox.put(_Job(handle))

    def _show_reports(self) -> None:
        now_s = time.monotonic()
        for round_id in [r for r, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[round_id]
            report = self._launcher.report(round_id)
            if report is not None:
                self._shown_s[round_id] = now_s
                self._show(report)

    def _show(self, report: LaunchReport) -> None:
        message = Message(self._topics.launch(report.round_id), report.encode(), retain=True)
        self._outbox.add(lambda: message)
