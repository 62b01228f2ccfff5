"""What the HTTP face does about a request: publishes what operators, managers or proplets would,
and waits for what is said about it.

It keeps nothing of a round but what was heard lately. Coordinator, model server and proplets are
where they always are, and do not know that HTTP was involved.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import LinkError, MessageError, PropellerError, RequestError
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._tasks import ENDED, Task, TaskBook, TaskState, now
from propeller_fl.link import BrokerAddress, Incoming, Link
from propeller_fl.operator import Operator
from propeller_fl.proplet import DataSource
from propeller_fl.store import ModelFormat, convert
from propeller_fl.wire import (
    AckStatus,
    Alive,
    Discovery,
    Format,
    Liveness,
    Model,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskResult,
    TaskStart,
    TaskStop,
    Topics,
    UpdateAck,
    check_id,
    decode_document,
    decode_update,
    model_uri,
    model_version,
)

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_ROUNDS: Final = 2_000  # of which something is remembered
_ACKS: Final = 10_000
_PROPLETS: Final = 100_000
_MODEL_BYTES: Final = 64 * 1024 * 1024  # of models that are remembered
_LOOK_S: Final = 1.0  # how long something retained may take
_ALIVE_S: Final = 30.0  # without a word, a proplet is not alive any more
_GONE: Final = (Phase.COMPLETE, Phase.FAILED)


@dataclass(slots=True)
class _Proplet:
    discovery: Discovery
    heard_s: float
    heard_at: str
    offline: bool = False

    @property
    def alive(self) -> bool:
        return not self.offline and time.monotonic() - self.heard_s <= _ALIVE_S


class Gateway:
    """``link`` must not be started yet; ``start`` does that. Give it a persistent session.

    Everything else may be called from any thread, may take as long as ``config.wait_s``, and
    raises ``Refusal``, ``MessageError`` for what a request holds, or ``LinkError``.
    """

    def __init__(
        self,
        link: Link,
        address: BrokerAddress,
        topics: Topics,
        config: GatewayConfig,
        book: TaskBook,
        data: DataSource | None = None,
    ) -> None:
        self._link = link
        self._address = address
        self._topics = topics
        self._config = config
        self._book = book
        self._data = data
        self._heard = threading.Condition()
        self._starts: OrderedDict[str, RoundStart] = OrderedDict()
        self._statuses: OrderedDict[tuple[str, str], RoundStatus] = OrderedDict()  # by start, too
        self._latest: OrderedDict[str, RoundStatus] = OrderedDict()  # by round
        self._completes: OrderedDict[str, RoundComplete] = OrderedDict()
        self._acks: OrderedDict[tuple[str, str, str], UpdateAck] = OrderedDict()
        self._versions: set[int] = set()
        self._models: OrderedDict[int, bytes] = OrderedDict()
        self._proplets: OrderedDict[str, _Proplet] = OrderedDict()
        self._turn = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="gateway-tasks")

    def start(self) -> None:
        topics, link = self._topics, self._link
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

    def stop(self) -> None:
        """The link and the book are the caller's to close."""
        self._writer.shutdown(wait=True)

    @property
    def broker_up(self) -> bool:
        return self._link.connected

    # --- rounds

    def start_round(self, wanted: Mapping[str, Any]) -> RoundStart:
        """Start a round, and return once the coordinator has opened it. ``wanted``: an experiment
        in Propeller's fields."""
        document = {**wanted, "model_uri": wanted.get("model_ref") or model_uri(0)}
        participants = wanted.get("participants")
        document["k_of_n"] = wanted.get("k_of_n") or (
            min(3, len(participants)) if isinstance(participants, list) else 1
        )
        document["timeout_s"] = wanted.get("timeout_s") or 60
        document["hyperparams"] = wanted.get("hyperparams") or {}
        document["task_wasm_image"] = wanted.get("task_wasm_image") or self._config.task_wasm_image
        start = RoundStart.decode(_encoded(document))
        key = start.round_id, start.digest()

        def judged() -> RoundStatus | None:
            return self._statuses.get(key)

        self._publish(self._topics.round_start, start.encode())
        status = self._wait(judged, self._topics.status(start.round_id))
        if status is None:
            raise Refusal(
                504,
                f"nobody has opened round {start.round_id} within {self._config.wait_s:g} s",
                hint="is a coordinator running on this broker, with the same topic prefix?",
            )
        if status.phase is Phase.REFUSED:
            raise Refusal(409, f"round {start.round_id} is refused: {status.detail}")
        return start

    def task_of(self, round_id: str, proplet_id: str) -> dict[str, Any]:
        """What a proplet is to do in a round that is open, in Propeller's fields."""
        check_id(round_id, "round_id")
        with self._heard:
            start = self._starts.get(round_id)
        if start is None:
            raise Refusal(404, f"no start of a round {round_id} has been heard", where="round_id")
        if proplet_id and proplet_id not in start.participants:
            raise Refusal(
                404, f"{proplet_id} takes no part in round {round_id}", where="proplet_id"
            )
        return {
            "round_id": round_id,
            "model_ref": start.model_uri,
            "config": {"proplet_id": proplet_id},
            "hyperparams": dict(start.hyperparams),
        }

    def round(self, round_id: str) -> dict[str, Any]:
        """Where a round stands."""
        check_id(round_id, "round_id")

        def known() -> RoundStatus | RoundComplete | None:
            return self._completes.get(round_id) or self._latest.get(round_id)

        topics = self._topics.status(round_id), self._topics.complete(round_id)
        found = self._wait(known, *topics, wait_s=min(_LOOK_S, self._config.wait_s))
        if found is None:
            raise Refusal(
                404, f"there is no round {round_id}, or it was long ago", where="round_id"
            )
        with self._heard:
            complete, status = self._completes.get(round_id), self._latest.get(round_id)
        said: dict[str, Any] = {
            "round_id": round_id,
            "completed": complete is not None or (status is not None and status.phase in _GONE),
            "num_updates": complete.num_updates if complete else status.accepted if status else 0,
            "k_of_n": status.k_of_n if status else 0,
        }
        if complete is not None:
            said |= {
                "model_version": complete.model_version,
                "outcome": str(complete.status),
                "metrics": dict(complete.metrics),
                "detail": complete.detail,
            }
        return said

    def last_round(self) -> dict[str, Any]:
        """The round that ended last, of those that were heard of, and what may follow it."""
        with self._heard:
            ended = max(self._completes.values(), key=lambda c: c.completed_at, default=None)
            version = max(self._versions, default=None)
        if ended is None:
            return {"next_round_available": False, "message": "no round has ended"}
        version = ended.model_version if version is None else version
        return {
            "next_round_available": True,
            "last_completed_round": ended.round_id,
            "new_model_version": version,
            "model_uri": model_uri(version),
            "status": "ready",
        }

    def update(self, payload: bytes) -> UpdateAck:
        """Hand an update in, for whom it says it is from, and return the coordinator's answer."""
        document = decode_update(payload)
        ids = []
        for name in ("round_id", "proplet_id"):
            value = document.get(name)
            if not isinstance(value, str) or not value:
                raise Refusal(400, f"{name} is missing", where=name)
            ids.append(check_id(value, name))
        round_id, proplet_id = ids
        key = round_id, proplet_id, hashlib.sha256(payload).hexdigest()
        with self._heard:
            self._acks.pop(key, None)  # a new answer is wanted
        self._publish(self._topics.update(round_id, proplet_id), payload)
        ack = self._wait(lambda: self._acks.get(key))
        if ack is None:
            raise Refusal(
                504,
                f"the coordinator has not answered within {self._config.wait_s:g} s",
                hint="send the same again: it counts once",
            )
        if ack.status is not AckStatus.ACCEPTED:
            detail = ack.detail or "the coordinator refused the update"
            raise Refusal(409, f"{ack.reason}: {detail}", where=ack.reason)
        return ack

    # --- models and data

    def put_model(self, version: int, model: Mapping[str, Any]) -> None:
        """Have the model server keep it."""
        decoded = Model.decode(_encoded({**model, "version": version}))
        with Operator(self._address, self._topics, timeout_s=self._config.wait_s) as operator:
            try:
                operator.put_model(version, decoded.encode(Format.JSON))
            except RequestError as error:
                raise Refusal(409, error.args[0], where="version", hint=error.hint) from None

    def versions(self) -> list[int]:
        with self._heard:
            return sorted(self._versions)

    def model(self, version: int) -> bytes:
        """A model as JSON, with its version; a large one is its manifest."""

        def known() -> bytes | None:
            return self._models.get(version)

        topic = self._topics.model(version)
        payload = self._wait(known, topic, wait_s=min(_LOOK_S, self._config.wait_s))
        if payload is None:
            raise Refusal(404, f"there is no model version {version}", where="version")
        if "manifest" in decode_document(payload):
            return payload
        return convert(payload, ModelFormat.JSON)

    def dataset(self, proplet_id: str, *, rows: bool) -> dict[str, Any]:
        """A proplet's data: rows as Propeller's demo has them, or arrays as our modules read
        them, who take nothing else beside those."""
        check_id(proplet_id, "proplet_id")
        if self._data is None:
            raise Refusal(404, "no data are served here", hint="set gateway.data")
        try:
            data = self._data.data_of(proplet_id)
            document = decode_document(data if isinstance(data, bytes) else data.read_bytes())
        except (PropellerError, OSError) as error:
            raise Refusal(404, f"there are no data of {proplet_id}: {error}") from None
        x, y = (_plain(document[name]) for name in ("x", "y"))
        scale = document.get("x_scale", 1)
        x = [[value * scale for value in row] for row in x]
        if not rows:
            return {"x": x, "y": y}
        samples = [{"x": row, "y": label} for row, label in zip(x, y, strict=True)]
        said = {"schema": "fl-demo-dataset-v1", "proplet_id": proplet_id, "size": len(samples)}
        return said | {"data": samples}

    # --- proplets and tasks

    def proplets(self) -> list[dict[str, Any]]:
        with self._heard:
            return [_shown(proplet) for _, proplet in sorted(self._proplets.items())]

    def proplet(self, proplet_id: str) -> dict[str, Any]:
        with self._heard:
            found = self._proplets.get(proplet_id)
            if found is None:
                raise Refusal(404, f"there is no proplet {proplet_id}", where="proplet_id")
            return _shown(found)

    def create_task(self, wanted: Mapping[str, Any]) -> Task:
        """Take a task down; it is not started."""
        if not wanted.get("name"):
            raise Refusal(400, "name is missing", where="name")
        if wanted.get("broadcast") and wanted.get("proplet_id"):
            raise Refusal(400, "broadcast and proplet_id exclude each other", where="broadcast")
        start = TaskStart.decode(_encoded({**wanted, "id": str(uuid.uuid4())}))
        if start.unsupported:
            raise Refusal(400, f"{start.unsupported} is not supported", where=start.unsupported)
        return self._book.put(Task(replace(start, fl=None)))

    def task(self, task_id: str) -> Task:
        found = self._book.get(task_id)
        if found is None:
            raise Refusal(404, f"there is no task {task_id[:80]}", where="task_id")
        return found

    def tasks(self, offset: int, limit: int) -> tuple[int, list[Task]]:
        return self._book.page(offset, limit)

    def start_task(self, task_id: str) -> Task:
        """Give a task to its proplet, or to one that is alive."""
        task = self.task(task_id)
        if task.state is TaskState.RUNNING:
            raise Refusal(409, "the task runs already", where="task_id")
        if task.state in ENDED:  # a proplet answers a known id with its old result
            raise Refusal(409, "the task has ended", hint="create it anew")
        start = task.start
        topic = self._topics.task_start
        if not start.broadcast:
            proplet = self._choose(start.proplet_id)
            start = replace(start, proplet_id=proplet.discovery.proplet_id)
            if proplet.discovery.metadata.get("own_start_topic") == "true":
                topic = self._topics.task_start_of(start.proplet_id)
        running = replace(
            task, start=start, state=TaskState.RUNNING, start_time=now(), updated_at=now()
        )
        self._book.put(running)  # before a result can come
        try:
            self._publish(topic, start.encode())
        except (LinkError, MessageError):
            self._book.put(task)
            raise
        return running

    def stop_task(self, task_id: str) -> Task:
        """Tell its proplet to stop. What it then says of the task is kept."""
        task = self.task(task_id)
        # Propeller's own proplets say at once that a daemon is done, and go on running it.
        may_run = task.start.daemon and task.state is TaskState.COMPLETED
        if task.state is not TaskState.RUNNING and not may_run:
            raise Refusal(409, "the task is not running", where="task_id")
        stop = TaskStop(task_id, task.start.proplet_id)
        interrupted = replace(
            task, state=TaskState.INTERRUPTED, updated_at=now(), finish_time=now()
        )
        self._book.put(interrupted)
        known = self._proplets.get(stop.proplet_id)
        metadata = known.discovery.metadata if known else {}
        self._publish(
            self._topics.task_stop_of(stop.proplet_id)
            if metadata.get("own_start_topic") == "true"
            else self._topics.task_stop,
            stop.encode(),
        )
        return interrupted

    def delete_task(self, task_id: str) -> None:
        if self.task(task_id).state is TaskState.RUNNING:
            raise Refusal(409, "the task runs", where="task_id", hint="stop it first")
        self._book.delete(task_id)

    def _choose(self, proplet_id: str) -> _Proplet:
        with self._heard:
            alive = [p for _, p in sorted(self._proplets.items()) if p.alive]
            if proplet_id:
                alive = [p for p in alive if p.discovery.proplet_id == proplet_id]
            if not alive:
                whose = f"proplet {proplet_id} is not" if proplet_id else "no proplet is"
                raise Refusal(
                    409, f"{whose} alive", where="proplet_id", hint="start one, and try again"
                )
            self._turn += 1
            return alive[self._turn % len(alive)]

    # --- talking

    def _publish(self, topic: str, payload: bytes) -> None:
        self._link.publish(topic, payload).wait(self._config.wait_s)

    def _wait(
        self, found: Callable[[], _T | None], *topics: str, wait_s: float | None = None
    ) -> _T | None:
        """What is found by the end of ``wait_s``. ``topics`` are asked for what they retain, if it
        is not at hand: a broker may have failed to send it."""
        until_s = time.monotonic() + (self._config.wait_s if wait_s is None else wait_s)
        with self._heard:
            value = found()
        if value is not None:
            return value
        handlers = {
            topic: self._handler(self._on_model if "/models/" in topic else self._on_retained)
            for topic in topics
        }
        for topic, handler in handlers.items():
            self._link.subscribe(topic, handler, qos=0)
        try:
            with self._heard:
                while (value := found()) is None and (left_s := until_s - time.monotonic()) > 0:
                    self._heard.wait(left_s)
                return value
        finally:
            for topic in topics:
                self._link.unsubscribe(topic)

    def _handler(self, handle: Callable[[Incoming], None]) -> Callable[[Incoming], None]:
        def take(incoming: Incoming) -> None:
            try:
                with self._heard:
                    handle(incoming)
                    self._heard.notify_all()
            except MessageError as error:
                _log.warning("message on %s ignored: %s", incoming.topic, error)
            incoming.ack()

        return take

    # --- on the link's thread, holding the condition

    def _on_start(self, incoming: Incoming) -> None:
        start = RoundStart.decode(incoming.payload)
        self._starts.setdefault(start.round_id, start)
        _shorten(self._starts, _ROUNDS)

    def _on_retained(self, incoming: Incoming) -> None:
        if incoming.topic.endswith("/complete"):
            self._on_complete(incoming)
        else:
            self._on_status(incoming)

    def _on_status(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return  # the coordinator has cleared it
        status = RoundStatus.decode(incoming.payload)
        self._statuses[status.round_id, status.start_sha256] = status
        _shorten(self._statuses, 2 * _ROUNDS)
        if status.phase is not Phase.REFUSED:
            self._latest[status.round_id] = status
            self._latest.move_to_end(status.round_id)
            _shorten(self._latest, _ROUNDS)

    def _on_complete(self, incoming: Incoming) -> None:
        if incoming.payload:
            complete = RoundComplete.decode(incoming.payload)
            self._completes[complete.round_id] = complete
            _shorten(self._completes, _ROUNDS)

    def _on_ack(self, incoming: Incoming) -> None:
        ack = UpdateAck.decode(incoming.payload)
        self._acks[ack.round_id, ack.proplet_id, ack.sha256] = ack
        _shorten(self._acks, _ACKS)

    def _on_model(self, incoming: Incoming) -> None:
        version = model_version(self._topics.relative(incoming.topic) or "")
        if version is None:
            return
        self._models.pop(version, None)
        if not incoming.payload:
            self._versions.discard(version)
            return
        self._versions.add(version)
        self._models[version] = incoming.payload
        while len(self._models) > 1 and sum(map(len, self._models.values())) > _MODEL_BYTES:
            self._models.popitem(last=False)

    def _on_create(self, incoming: Incoming) -> None:
        discovery = Discovery.decode(incoming.payload)
        if self._speaks_for_itself(incoming.topic, discovery.proplet_id):
            self._hear(discovery, offline=False)

    def _on_alive(self, incoming: Incoming) -> None:
        alive = Alive.decode(incoming.payload)
        if not self._speaks_for_itself(incoming.topic, alive.proplet_id):
            return
        known = self._proplets.get(alive.proplet_id)
        discovery = known.discovery if known else Discovery(alive.proplet_id, alive.namespace)
        self._hear(discovery, offline=alive.status is Liveness.OFFLINE)

    def _hear(self, discovery: Discovery, *, offline: bool) -> None:
        self._proplets[discovery.proplet_id] = _Proplet(discovery, time.monotonic(), now(), offline)
        self._proplets.move_to_end(discovery.proplet_id)
        _shorten(self._proplets, _PROPLETS)

    def _on_result(self, incoming: Incoming) -> None:
        result = TaskResult.decode(incoming.payload)
        if self._speaks_for_itself(incoming.topic, result.proplet_id):
            self._writer.submit(self._keep_result, result)

    def _speaks_for_itself(self, topic: str, proplet_id: str) -> bool:
        """Whether the message is of whom it names, where its topic tells."""
        speaker = self._topics.parse_speaker(topic)
        if speaker is None or proplet_id in ("", speaker):
            return True
        _log.warning("ignored: it names another than its topic", extra={"proplet_id": speaker})
        return False

    def _keep_result(self, result: TaskResult) -> None:
        try:
            self._book.finish(result)
        except PropellerError as error:
            _log.error("result not kept: %s", error, extra={"task_id": result.task_id})


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _shorten(of: OrderedDict[Any, Any], most: int) -> None:
    while len(of) > most:
        of.popitem(last=False)


def _shown(proplet: _Proplet) -> dict[str, Any]:
    return {
        "id": proplet.discovery.proplet_id,
        "name": proplet.discovery.proplet_id,
        "task_count": 0,
        "alive": proplet.alive,
        "last_alive_at": proplet.heard_at,
        "metadata": dict(proplet.discovery.metadata),
    }


def _plain(value: Any) -> list[Any]:
    """A matrix or a list, from JSON or CBOR, as lists."""
    plain: list[Any] = value.tolist() if hasattr(value, "tolist") else list(value)
    return plain
