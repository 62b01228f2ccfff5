"""What was heard on the broker lately, and how to wait for more.

Nothing of a round is kept but that. Coordinator, model server and proplets are where they always
are, and do not know that HTTP is involved.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from propeller_fl.errors import MessageError
from propeller_fl.gateway._tasks import now
from propeller_fl.link import Incoming, Link
from propeller_fl.wire import (
    Alive,
    Discovery,
    Liveness,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskResult,
    Topics,
    UpdateAck,
    model_version,
)

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_ROUNDS: Final = 2_000  # of which something is remembered
_ACKS: Final = 10_000
_PROPLETS: Final = 100_000
_MODEL_BYTES: Final = 64 * 1024 * 1024  # of models that are remembered
_ALIVE_S: Final = 30.0  # without a word, a proplet is not alive any more


@dataclass(slots=True)
class Proplet:
    discovery: Discovery
    heard_s: float
    heard_at: str
    offline: bool = False

    @property
    def alive(self) -> bool:
        return not self.offline and time.monotonic() - self.heard_s <= _ALIVE_S


class Heard:
    """``link`` must not be started yet; ``start`` does that. ``on_result`` gets what proplets say
    of tasks, on the link's thread. What is heard is read holding ``lock``."""

    def __init__(
        self, link: Link, topics: Topics, wait_s: float, on_result: Callable[[TaskResult], None]
    ) -> None:
        self.link = link
        self.topics = topics
        self.wait_s = wait_s
        self.lock = threading.Condition()
        self.starts: OrderedDict[str, RoundStart] = OrderedDict()
        self.statuses: OrderedDict[tuple[str, str], RoundStatus] = OrderedDict()  # by start, too
        self.latest: OrderedDict[str, RoundStatus] = OrderedDict()  # by round
        self.completes: OrderedDict[str, RoundComplete] = OrderedDict()
        self.acks: OrderedDict[tuple[str, str, str], UpdateAck] = OrderedDict()
        self.versions: set[int] = set()
        self.models: OrderedDict[int, bytes] = OrderedDict()
        self.proplets: OrderedDict[str, Proplet] = OrderedDict()
        self._on_task_result = on_result

    def start(self) -> None:
        topics, link = self.topics, self.link
        for topic, handle in (
            (topics.round_start, self._on_start),
            (topics.any_ack, self._on_ack),
            (topics.proplet_create, self._on_create),
            (topics.proplet_alive, self._on_alive),
            (topics.proplet_results, self._on_result),
            (topics.proplet_create_of("+"), self._on_create),
            (topics.proplet_alive_of("+"), self._on_alive),
            (topics.proplet_results_of("+"), self._on_result),
        ):
            link.subscribe(topic, self._handler(handle))
        for topic, handle in (  # of these, hundreds may be retained
            (topics.any_status, self._on_status),
            (topics.any_complete, self._on_complete),
            (topics.any_model, self._on_model),
        ):
            link.subscribe(topic, self._handler(handle), qos=0)
        link.start()

    def publish(self, topic: str, payload: bytes) -> None:
        self.link.publish(topic, payload).wait(self.wait_s)

    def wait(
        self, found: Callable[[], _T | None], *topics: str, wait_s: float | None = None
    ) -> _T | None:
        """What is found by the end of ``wait_s``. ``topics`` are asked for what they retain, if it
        is not at hand: a broker may have failed to send it."""
        until_s = time.monotonic() + (self.wait_s if wait_s is None else wait_s)
        with self.lock:
            value = found()
        if value is not None:
            return value
        handlers = {
            topic: self._handler(self._on_model if "/models/" in topic else self._on_retained)
            for topic in topics
        }
        for topic, handler in handlers.items():
            self.link.subscribe(topic, handler, qos=0)
        try:
            with self.lock:
                while (value := found()) is None and (left_s := until_s - time.monotonic()) > 0:
                    self.lock.wait(left_s)
                return value
        finally:
            for topic in topics:
                self.link.unsubscribe(topic)

    def _handler(self, handle: Callable[[Incoming], None]) -> Callable[[Incoming], None]:
        def take(incoming: Incoming) -> None:
            try:
                with self.lock:
                    handle(incoming)
                    self.lock.notify_all()
            except MessageError as error:
                _log.warning("message on %s ignored: %s", incoming.topic, error)
            incoming.ack()

        return take

    # --- on the link's thread, holding the condition

    def _on_start(self, incoming: Incoming) -> None:
        start = RoundStart.decode(incoming.payload)
        self.starts.setdefault(start.round_id, start)
        _shorten(self.starts, _ROUNDS)

    def _on_retained(self, incoming: Incoming) -> None:
        if incoming.topic.endswith("/complete"):
            self._on_complete(incoming)
        else:
            self._on_status(incoming)

    def _on_status(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return  # the coordinator has cleared it
        status = RoundStatus.decode(incoming.payload)
        self.statuses[status.round_id, status.start_sha256] = status
        _shorten(self.statuses, 2 * _ROUNDS)
        if status.phase is not Phase.REFUSED:
            self.latest[status.round_id] = status
            self.latest.move_to_end(status.round_id)
            _shorten(self.latest, _ROUNDS)

    def _on_complete(self, incoming: Incoming) -> None:
        if incoming.payload:
            complete = RoundComplete.decode(incoming.payload)
            self.completes[complete.round_id] = complete
            _shorten(self.completes, _ROUNDS)

    def _on_ack(self, incoming: Incoming) -> None:
        ack = UpdateAck.decode(incoming.payload)
        self.acks[ack.round_id, ack.proplet_id, ack.sha256] = ack
        _shorten(self.acks, _ACKS)

    def _on_model(self, incoming: Incoming) -> None:
        version = model_version(self.topics.relative(incoming.topic) or "")
        if version is None:
            return
        self.models.pop(version, None)
        if not incoming.payload:
            self.versions.discard(version)
            return
        self.versions.add(version)
        self.models[version] = incoming.payload
        while len(self.models) > 1 and sum(map(len, self.models.values())) > _MODEL_BYTES:
            self.models.popitem(last=False)

    def _on_create(self, incoming: Incoming) -> None:
        discovery = Discovery.decode(incoming.payload)
        if self._speaks_for_itself(incoming.topic, discovery.proplet_id):
            self._hear(discovery, offline=False)

    def _on_alive(self, incoming: Incoming) -> None:
        alive = Alive.decode(incoming.payload)
        if not self._speaks_for_itself(incoming.topic, alive.proplet_id):
            return
        known = self.proplets.get(alive.proplet_id)
        discovery = known.discovery if known else Discovery(alive.proplet_id, alive.namespace)
        self._hear(discovery, offline=alive.status is Liveness.OFFLINE)

    def _hear(self, discovery: Discovery, *, offline: bool) -> None:
        self.proplets[discovery.proplet_id] = Proplet(discovery, time.monotonic(), now(), offline)
        self.proplets.move_to_end(discovery.proplet_id)
        _shorten(self.proplets, _PROPLETS)

    def _on_result(self, incoming: Incoming) -> None:
        result = TaskResult.decode(incoming.payload)
        if self._speaks_for_itself(incoming.topic, result.proplet_id):
            self._on_task_result(result)

    def _speaks_for_itself(self, topic: str, proplet_id: str) -> bool:
        """Whether the message is of whom it names, where its topic tells."""
        speaker = self.topics.parse_speaker(topic)
        if speaker is None or proplet_id in ("", speaker):
            return True
        _log.warning("ignored: it names another than its topic", extra={"proplet_id": speaker})
        return False


def encoded(document: Mapping[str, Any]) -> bytes:
    """As JSON."""
    return json.dumps(document).encode()


def _shorten(of: OrderedDict[Any, Any], most: int) -> None:
    while len(of) > most:
        of.popitem(last=False)
