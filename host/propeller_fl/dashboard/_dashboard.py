"""The thread that lives between topics and pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from propeller_fl.clock import steady_clock
from propeller_fl.config import DashboardConfig
from propeller_fl.dashboard._view import View
from propeller_fl.errors import LinkError, RequestError
from propeller_fl.link import Incoming, Link
from propeller_fl.operator import is_obeyed
from propeller_fl.wire import (
    ExperimentCommand,
    ExperimentStart,
    ExperimentStatus,
    Phase,
    RoundStart,
    RoundStatus,
    RoundStop,
    Topics,
)

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_EVERY_S: Final = 0.25  # between two messages to a page
_KEEPALIVE_S: Final = 10.0
_RETAINED_AGAIN_S: Final = (1.0, 5.0, 20.0)  # after connecting
_MAX_WAITING: Final = 50_000  # messages, and …
_MAX_WAITING_BYTES: Final = 128 * 1024 * 1024
_MAX_PAGES: Final = 64
_MAX_UNREAD: Final = 64  # messages to a page that does not read
_AT_ONCE: Final = 1_000  # messages between two looks at the clock


@dataclass(eq=False, slots=True)
class _Page:
    """A browser that listens; ``None`` ends it."""

    loop: asyncio.AbstractEventLoop
    messages: asyncio.Queue[bytes | None]

    def put(self, message: bytes | None) -> None:
        """On its loop. Who does not keep up is let go, and comes back for a snapshot."""
        if self.messages.full():
            while not self.messages.empty():
                self.messages.get_nowait()
            message = None
        self.messages.put_nowait(message)


class Dashboard:
    """Holds the :class:`View` of what is said on ``link``, which it starts, and tells the pages.

    Nothing that it misses is lost to anybody else: it listens at QoS 0, in a session of the moment.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: DashboardConfig,
        *,
        liveness_timeout_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._link = link
        self._topics = topics
        self._config = config
        self._clock = clock or steady_clock()
        self._view = View(
            topics, liveness_timeout_s=liveness_timeout_s, keep_rounds=config.keep_rounds
        )
        self._lock = threading.Condition()  # guards the view and the pages
        self._pages: set[_Page] = set()
        self._asking = threading.Lock()  # held while a model is fetched
        self._inbox: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._missed = False
        self._retained_due_s: list[float] = []
        self._came_up = threading.Event()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    @property
    def failure(self) -> Exception | None:
        """The error that ended its thread, if one has."""
        return self._failure

    @property
    def broker_up(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        topics = self._topics
        for topic in (
            topics.round_start,
            topics.any_ack,
            topics.proplet_create,
            topics.proplet_alive,
            topics.proplet_results,
            topics.proplet_create_of("+"),
            topics.proplet_alive_of("+"),
            topics.proplet_results_of("+"),
        ):
            self._link.subscribe(topic, self._on_message, qos=0)
        self._ask_for_retained()
        self._link.on_up = lambda session_present: self._came_up.set()
        self._link.start()
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let the pages go and end. The link is the caller's to close."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # --- for the routes, any thread

    def snapshot(self) -> dict[str, Any]:
        with self._lock:
            return self._snapshot()

    def round(self, round_id: str) -> dict[str, Any] | None:
        """A round with its story, ``None`` if it is not known."""
        with self._lock:
            return self._view.round(round_id)

    def start_round(self, start: RoundStart) -> RoundStatus:
        """Publish ``start`` and wait for the coordinator's word on it: ``open``, or refused.

        Raises :class:`RequestError` when nobody answers, :class:`LinkError` without a broker.
        """
        digest = start.digest()
        return self._ask(
            self._topics.round_start,
            start.encode(),
            lambda: self._view.verdict(digest),
            f"nobody has opened {start.round_id}",
            "a coordinator",
        )

    def stop_round(self, stop: RoundStop) -> RoundStatus:
        """Have a round stopped; returns how it has ended. Raises as :meth:`start_round`."""

        def ended() -> RoundStatus | None:
            status = self._view.status(stop.round_id)
            return status if status is not None and status.phase.closed else None

        topic = self._topics.round_stop(stop.round_id)
        nobody = f"nobody has stopped {stop.round_id}"
        return self._ask(topic, stop.encode(), ended, nobody, "a coordinator")

    def start_experiment(self, start: ExperimentStart) -> ExperimentStatus:
        """Ask for an experiment; returns the service's word on it. Raises as
        :meth:`start_round`."""
        name, digest, known = start.experiment_id, start.digest(), self._view.experiments
        with self._lock:
            known.forget_answer(name, digest)
        return self._ask(
            self._topics.experiment_start,
            start.encode(),
            lambda: known.answer(name, digest),
            f"nobody has started {name}",
            "the service of experiments",
        )

    def command_experiment(self, said: ExperimentCommand) -> ExperimentStatus:
        """Pause, resume or stop an experiment; returns where it then stands, which is not where it
        should if that cannot be. Raises as :meth:`start_round`."""
        name = said.experiment_id

        def obeyed() -> ExperimentStatus | None:
            status = self._view.experiments.status(name)
            return status if status is not None and is_obeyed(said.command, status) else None

        topic = self._topics.experiment_command(name)
        nobody = f"{name} is not where that leads to"
        return self._ask(topic, said.encode(), obeyed, nobody, "the service of experiments")

    def _ask(
        self, topic: str, message: bytes, found: Callable[[], _T | None], nobody: str, whose: str
    ) -> _T:
        """Publish ``message`` and wait for what is ``found``, holding the lock, when it is
        answered."""
        until_s = time.monotonic() + self._config.wait_s
        self._link.publish(topic, message).wait(self._config.wait_s)
        with self._lock:
            while (answer := found()) is None:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or self._stopping.is_set():
                    raise RequestError(
                        f"{nobody}, {self._config.wait_s:g} s after it was asked for",
                        hint=f"is {whose} running on this broker, with the same topic prefix?",
                    )
                self._lock.wait(min(left_s, 1.0))
        return answer

    def document(self, version: int) -> bytes:
        """The document that is retained as model ``version``.

        Raises :class:`RequestError` when there is none, :class:`LinkError` without a broker.
        """
        found: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        topic = self._topics.model(version)

        def take(incoming: Incoming) -> None:
            incoming.ack()
            if incoming.payload:
                found.put(incoming.payload)

        with self._asking:  # one at a time: a filter has one handler
            try:
                self._link.subscribe(topic, take, qos=0).wait(self._config.wait_s)
                return found.get(timeout=self._config.wait_s)
            except queue.Empty:
                raise RequestError(f"there is no model {version}") from None
            finally:
                self._link.unsubscribe(topic)

    async def pages(self, still_welcome: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events for one page: a snapshot, then changes; ends when it is no longer
        welcome, does not keep up, or we stop. Raises :class:`RequestError` when there are too many.
        """
        page = _Page(asyncio.get_running_loop(), asyncio.Queue(_MAX_UNREAD))
        with self._lock:
            if len(self._pages) >= _MAX_PAGES or self._stopping.is_set():
                raise RequestError(f"{_MAX_PAGES} pages are open", hint="close one of them")
            self._pages.add(page)
            first = _event("snapshot", self._snapshot())
        return self._stream(page, first, still_welcome)

    async def _stream(
        self, page: _Page, first: bytes, still_welcome: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        try:
            yield first
            asked_s = time.monotonic()
            while True:
                try:
                    message = await asyncio.wait_for(page.messages.get(), _KEEPALIVE_S)
                except TimeoutError:
                    message = _event("alive", {"now_s": self._clock(), "broker": self.broker_up})
                if message is None:
                    return
                if time.monotonic() - asked_s > _KEEPALIVE_S:
                    if not still_welcome():
                        return
                    asked_s = time.monotonic()
                yield message
        finally:
            with self._lock:
                self._pages.discard(page)

    def _snapshot(self) -> dict[str, Any]:
        return self._view.snapshot(self._clock()) | {"broker": self.broker_up}

    # --- messages

    def _on_message(self, incoming: Incoming) -> None:
        """On the link's thread."""
        incoming.ack()
        size_bytes = len(incoming.payload)
        if (
            self._inbox.qsize() >= _MAX_WAITING
            or self._waiting_bytes + size_bytes > _MAX_WAITING_BYTES
        ):
            self._missed = True
            return
        self._waiting_bytes += size_bytes  # about: the other thread takes away at the same time
        self._inbox.put(incoming)

    def _ask_for_retained(self) -> None:
        """What is retained while a broker takes our SUBSCRIBE can be lost to us, so we ask again;
        all that comes twice changes nothing."""
        topics = self._topics
        for topic in (
            topics.any_model,
            topics.any_status,
            topics.any_launch,
            topics.any_complete,
            topics.any_experiment_status,
        ):
            self._link.subscribe(topic, self._on_message, qos=0)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._take()
                self._tell()
        except Exception as err:
            _log.critical("the dashboard has stopped", exc_info=True)
            self._failure = err
        finally:
            self._stopping.set()
            with self._lock:
                for page in self._pages:
                    self._post(page, None)
                self._lock.notify_all()

    def _take(self) -> None:
        """What arrives until it is time to tell."""
        until_s = time.monotonic() + _EVERY_S
        count = 0
        while (left_s := until_s - time.monotonic()) > 0 and count < _AT_ONCE:
            try:
                incoming = self._inbox.get(timeout=left_s)
            except queue.Empty:
                self._waiting_bytes = 0
                break
            if incoming is None:
                return
            self._waiting_bytes = max(0, self._waiting_bytes - len(incoming.payload))
            count += 1
            with self._lock:
                self._view.heard(incoming.topic, incoming.payload, self._clock())
                if incoming.topic.endswith("/status"):
                    self._lock.notify_all()
        self._ask_when_due()

    def _ask_when_due(self) -> None:
        now_s = time.monotonic()
        if self._came_up.is_set():
            self._came_up.clear()
            self._retained_due_s = [now_s + after_s for after_s in _RETAINED_AGAIN_S]
        if self._missed and self._inbox.empty():
            self._missed = False
            _log.warning("more was said than could be taken in; what is retained is read again")
            self._retained_due_s.append(now_s)
        due = [at_s for at_s in self._retained_due_s if at_s <= now_s]
        if due:
            self._retained_due_s = [at_s for at_s in self._retained_due_s if at_s > now_s]
            try:
                self._ask_for_retained()
            except LinkError as err:
                _log.debug("not asked again: %s", err)

    def _tell(self) -> None:
        with self._lock:
            self._view.ticked(self._clock())
            changes = self._view.take_changes(self._clock())
            if not changes or not self._pages:
                return
            message = _event("changes", changes)
            for page in self._pages:
                self._post(page, message)

    @staticmethod
    def _post(page: _Page, message: bytes | None) -> None:
        with contextlib.suppress(RuntimeError):  # its loop has ended, and it with that
            page.loop.call_soon_threadsafe(page.put, message)


def opened(status: RoundStatus) -> bool:
    """Whether a start led to a round, now or at an earlier time."""
    return status.phase is not Phase.REFUSED


def _event(kind: str, document: dict[str, Any]) -> bytes:
    """One server-sent event. JSON has no line break, so that one ``data:`` line will do."""
    data = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()
