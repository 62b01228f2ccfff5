"""One proplet: turns messages into events of its tasks, and their effects into messages and runs.

Everything but ``leave`` happens on the link loop's thread; modules run in the workers' threads.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import platform
import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import propeller_fl
from propeller_fl.config import PropletConfig
from propeller_fl.errors import ImageError, LinkError, MessageError, PropellerError
from propeller_fl.link import Delivery, Incoming, Link, LinkLoop, Timer, Will
from propeller_fl.proplet._board import Board
from propeller_fl.proplet._contents import Content, Contents
from propeller_fl.proplet._deadline import wall_clock
from propeller_fl.proplet._registry import RegistryImages
from propeller_fl.proplet._runs import RunsTasks
from propeller_fl.proplet._task import Tasks
from propeller_fl.proplet._task_events import (
    Answered,
    CancelRun,
    Effect,
    EndRun,
    Event,
    Expire,
    Expired,
    Failed,
    Given,
    ImageArrived,
    ImageFailed,
    ModelArrived,
    ModelFailed,
    Ran,
    ReadImage,
    Reconnected,
    Report,
    RoundClosed,
    Run,
    SendUpdate,
    Stopped,
    Taken,
    Wait,
    Waited,
    Want,
)
from propeller_fl.wire import (
    Alive,
    Discovery,
    Liveness,
    Manifest,
    RoundComplete,
    TaskResult,
    TaskStart,
    TaskStop,
    Topics,
    UpdateAck,
)

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_HEAR_OF_END_S: Final = 0.05  # a task that is done by then costs the broker no subscription

RUNTIME: Final = f"wasmtime {importlib.metadata.version('wasmtime')}"

# What Propeller shows of a proplet beside the names that are ours; see docs/propeller.md.
_PROPELLERS_NAMES: Final = {
    "os": platform.system().lower(),
    "hostname": platform.node(),
    "cpu_arch": platform.machine(),
    "total_memory_bytes": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    "proplet_version": propeller_fl.__version__,
}


def last_will(
    topics: Topics, config: PropletConfig, proplet_id: str, *, own_topics: bool = False
) -> Will:
    """What the broker is to say when this proplet is gone without a word."""
    alive = Alive(proplet_id, Liveness.OFFLINE, config.namespace)
    topic = topics.proplet_alive_of(proplet_id) if own_topics else topics.proplet_alive
    return Will(topic, alive.encode())


class Proplet:
    """Takes tasks from the manager for as long as its link lives.

    ``link`` has not been started and bears :func:`last_will`; the proplet subscribes to its topics
    and is told of connects by ``link.on_up``. A session of its own needs no memory on the broker:
    what is said while it is away is said again when it introduces itself.
    """

    def __init__(
        self,
        link: Link,
        loop: LinkLoop,
        topics: Topics,
        config: PropletConfig,
        proplet_id: str,
        board: Board,
        workers: RunsTasks,
        contents: Contents,
        registry: RegistryImages,
        *,
        own_topics: bool = False,
        runtime: str = RUNTIME,
    ) -> None:
        self._registry = registry
        self._runtime = runtime
        self._link = link
        self._loop = loop
        self._topics = topics
        self._config = config
        self._id = proplet_id
        self._board = board
        self._workers = workers
        self._contents = contents
        self._tasks = Tasks(proplet_id, config.resend_after_s)
        self._events: deque[Event] = deque()
        self._handling = False
        self._followed: set[Want] = set()
        self._soon: dict[Want, Timer] = {}  # those of them that are not asked for yet
        self._runs: dict[str, Future[Any]] = {}  # by task
        self._heartbeat: Timer | None = None
        self._leaving = False
        self._lock = threading.Lock()  # so that no heartbeat follows the word "offline"
        link.on_up = self._on_up
        self._create_topic = topics.proplet_create
        self._alive_topic = topics.proplet_alive
        self._results_topic = topics.proplet_results
        if own_topics:
            self._create_topic = topics.proplet_create_of(proplet_id)
            self._alive_topic = topics.proplet_alive_of(proplet_id)
            self._results_topic = topics.proplet_results_of(proplet_id)
        else:
            link.subscribe(topics.task_start, self._on_start)
            link.subscribe(topics.task_stop, self._on_stop)
        link.subscribe(topics.task_start_of(proplet_id), self._on_start)
        link.subscribe(topics.task_stop_of(proplet_id), self._on_stop)
        link.subscribe(topics.acks_of(proplet_id), self._on_ack)

    @property
    def id(self) -> str:
        return self._id

    @property
    def link(self) -> Link:
        return self._link

    def leave(self) -> None:
        """Take no more part, and say so if there is a connection; then the link can be closed.

        Any thread; again is harmless.
        """
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
            if self._link.connected:
                self._publish_alive(Liveness.OFFLINE)

    # --- being there

    def _on_up(self, session_present: bool) -> None:
        if self._leaving:
            return
        discovery = Discovery(
            self._id,
            self._config.namespace,
            {
                "runtime": self._runtime,
                "wasm_runtime": self._runtime,
                "arch": platform.machine(),
                "memory_bytes": str(self._config.memory_bytes),
                "version": propeller_fl.__version__,
                "own_start_topic": "true",
                **_PROPELLERS_NAMES,
            },
        )
        self._publish(self._create_topic, discovery.encode())
        self._beat()
        with contextlib.suppress(LinkError):  # closed meanwhile
            self._board.came_up(self._link)
        self._handle(Reconnected())

    def _beat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        with self._lock:
            if self._leaving:
                return
            if self._link.connected:  # else they would pile up
                self._publish_alive(Liveness.ALIVE)
        self._heartbeat = self._loop.call_later(self._config.heartbeat_s, self._beat)

    def _publish_alive(self, status: Liveness) -> None:
        alive = Alive(self._id, status, self._config.namespace)
        self._publish(self._alive_topic, alive.encode())

    # --- messages, each to one event

    def _on_start(self, incoming: Incoming) -> None:
        start = self._decoded(TaskStart.decode, incoming.topic, incoming.payload)
        if start is not None and (start.broadcast or start.proplet_id in ("", self._id)):
            self._handle(Given(start, wall_clock()))
        incoming.ack()

    def _on_stop(self, incoming: Incoming) -> None:
        stop = self._decoded(TaskStop.decode, incoming.topic, incoming.payload)
        if stop is not None and stop.proplet_id in ("", self._id):
            self._handle(Stopped(stop.id, addressed=stop.proplet_id == self._id))
        incoming.ack()

    def _on_ack(self, incoming: Incoming) -> None:
        ack = self._decoded(UpdateAck.decode, incoming.topic, incoming.payload)
        if ack is not None and incoming.topic == self._topics.ack(ack.round_id, self._id):
            self._handle(Answered(ack))
        incoming.ack()

    def _on_wanted(self, want: Want, payload: bytes) -> None:
        match want.kind:
            case "image":
                self._handle(ImageArrived(want.name, payload))
            case "model":
                self._on_model(want.name, payload)
            case "round":
                complete = self._decoded(RoundComplete.decode, self._topic_of(want), payload)
                if complete is not None and complete.round_id == want.name:
                    self._handle(RoundClosed(want.name, complete.status))

    def _on_model(self, uri: str, payload: bytes) -> None:
        try:
            manifest = Manifest.decode(payload)
        except MessageError as error:
            self._handle(ModelFailed(uri, payload, f"the model on {uri} cannot be used: {error}"))
            return
        if manifest is None:
            self._handle(ModelArrived(uri, payload))
            return

        def fetched(outcome: Content | BaseException) -> None:
            if isinstance(outcome, Content):
                self._handle(ModelArrived(uri, payload, outcome))
            else:
                error = f"the model on {uri} cannot be had: {outcome}"
                self._handle(ModelFailed(uri, payload, error))

        self._contents.fetch(manifest, (self._id, uri), fetched)

    def _decoded(self, decode: Callable[[bytes], _T], topic: str, payload: bytes) -> _T | None:
        """The message, or None after a warning."""
        try:
            return decode(payload)
        except MessageError as error:
            _log.warning(
                "message on %s ignored: %s", topic, error, extra={**self._extra(), "topic": topic}
            )
            return None

    # --- events and effects

    def _handle(self, event: Event) -> None:
        self._events.append(event)
        if self._handling:
            return  # an effect has had an answer at once; its turn comes below
        self._handling = True
        try:
            while self._events and not self._leaving:
                for effect in self._tasks.handle(self._events.popleft()):
                    self._carry_out(effect)
                self._follow()
        except LinkError as error:
            if not self._leaving:
                _log.error("%s", error, extra=self._extra())
        finally:
            self._handling = False

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case ReadImage(task_id, url, path):
                self._answer_later(
                    task_id, self._workers.read(path), lambda image: ImageArrived(url, image)
                )
            case Run(start):
                run = self._runs[start.id] = self._workers.run(self._id, effect)
                self._answer_later(start.id, run, lambda output: Ran(start.id, output))
            case CancelRun(task_id):
                unwanted = self._runs.pop(task_id, None)
                if unwanted is not None:
                    unwanted.cancel()  # one that has not begun
                self._workers.stop(self._id, task_id)
            case EndRun(task_id):
                self._workers.stop(self._id, task_id)
            case SendUpdate():
                self._send(effect)
            case Wait(task_id, sends, delay_s):
                self._loop.call_later(delay_s, lambda: self._handle(Waited(task_id, sends)))
            case Expire(task_id, delay_s):
                self._loop.call_later(delay_s, lambda: self._handle(Expired(task_id)))
            case Report(result):
                self._report(result)

    def _report(self, result: TaskResult) -> None:
        if result.error:
            _log.warning("task failed: %s", result.error, extra=self._extra(result.task_id))
        else:
            _log.info("task done", extra=self._extra(result.task_id))
        try:
            self._publish(self._results_topic, result.encode())
        except MessageError as error:  # the output of a task outside any round, too large
            failed = TaskResult(result.task_id, self._id, error=str(error))
            self._publish(self._results_topic, failed.encode())

    def _send(self, effect: SendUpdate) -> None:
        task_id = effect.task_id
        topic = self._topics.update(effect.round_id, self._id)
        try:
            delivery = self._link.publish(topic, effect.payload)
        except MessageError as error:  # larger than the link lets through
            self._handle(Failed(task_id, str(error)))
            return
        except LinkError as error:  # its queue is full: later
            _log.warning("update not sent: %s", error, extra=self._extra(task_id))
            self._handle(Taken(task_id, random.random()))
            return
        delivery.add_done_callback(functools.partial(self._on_delivered, effect))

    def _on_delivered(self, effect: SendUpdate, delivery: Delivery) -> None:
        if delivery.error is not None:  # the link is closed, and we with it
            return
        _log.info(
            "update sent, %d bytes",
            len(effect.payload),
            extra={**self._extra(effect.task_id), "round_id": effect.round_id},
        )
        self._handle(Taken(effect.task_id, random.random()))

    def _answer_later(self, task_id: str, future: Future[_T], event: Callable[[_T], Event]) -> None:
        def ended(future: Future[_T]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            answer = event(future.result()) if error is None else self._failed(task_id, error)
            try:
                self._loop.call_soon(lambda: self._on_ended(task_id, answer))
            except LinkError:
                _log.debug("a module ended after the link loop was stopped")

        future.add_done_callback(ended)

    def _on_ended(self, task_id: str, answer: Event) -> None:
        self._runs.pop(task_id, None)
        self._handle(answer)

    def _failed(self, task_id: str, error: BaseException) -> Failed:
        if isinstance(error, PropellerError):
            return Failed(task_id, str(error))
        _log.error("a worker failed", exc_info=error, extra=self._extra(task_id))
        return Failed(
            task_id, f"internal error, {type(error).__name__}: {error}; see the proplet's log"
        )

    def _follow(self) -> None:
        """Read on the board what the tasks want by now, and no more."""
        wants = self._tasks.wants
        for want in self._followed - wants:
            self._followed.remove(want)
            if want.kind == "registry":
                self._registry.forget(want.name, self._id)
                continue
            soon = self._soon.pop(want, None)
            if soon is not None:
                soon.cancel()
                continue
            self._board.unfollow(self._topic_of(want), self._id, keep=want.kind != "round")
            if want.kind == "model":
                self._contents.forget((self._id, want.name))
        new = wants - self._followed
        for want in new:
            if want.kind != "round":
                self._followed.add(want)
                self._ask_for(want)
        if self._events:
            return  # what a task lacks was there at once
        waiting = any(want.kind != "round" for want in wants)
        for want in new:
            if want.kind == "round":
                self._followed.add(want)
                self._ask_for_end(want, at_once=waiting)

    def _ask_for_end(self, want: Want, *, at_once: bool) -> None:
        """Ask for the end of a round: a moment later where the module runs already, since most
        tasks are over by then. It is retained, so that nothing is missed."""
        if at_once:
            self._ask_for(want)
        else:
            ask = functools.partial(self._ask_for, want)
            self._soon[want] = self._loop.call_later(_HEAR_OF_END_S, ask)

    def _ask_for(self, want: Want) -> None:
        self._soon.pop(want, None)
        if want.kind == "registry":
            fetched = functools.partial(self._on_registry_image, want.name)
            self._registry.fetch(want.name, self._id, fetched)
            return
        hear = functools.partial(self._on_wanted, want)
        with contextlib.suppress(LinkError):  # closed meanwhile
            self._board.follow(self._topic_of(want), self._id, hear)

    def _on_registry_image(self, name: str, outcome: bytes | ImageError) -> None:
        self._followed.discard(Want("registry", name))  # it was told once, and no more
        if isinstance(outcome, bytes):
            self._handle(ImageArrived(name, outcome))
        else:
            self._handle(ImageFailed(name, str(outcome)))

    def _topic_of(self, want: Want) -> str:
        if want.kind == "round":
            return self._topics.complete(want.name)
        return self._topics.absolute(want.name)

    def _publish(self, topic: str, payload: bytes) -> None:
        try:
            self._link.publish(topic, payload)
        except LinkError as error:
            _log.error("not published on %s: %s", topic, error, extra=self._extra())

    def _extra(self, task_id: str = "") -> dict[str, str]:
        extra = {"proplet_id": self._id}
        round_id = task_id.removesuffix(f".{self._id}")  # as the manager names tasks
        if round_id != task_id:
            extra["round_id"] = round_id
        return {**extra, "task_id": task_id} if task_id else extra
