"""Proplets and their tasks over HTTP."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from propeller_fl.errors import LinkError, MessageError, PropellerError
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._heard import Heard, Proplet, encoded
from propeller_fl.gateway._tasks import ENDED, Task, TaskBook, TaskState, now
from propeller_fl.wire import TaskResult, TaskStart, TaskStop

_log = logging.getLogger(__name__)


class Results:
    """Keeps what proplets say of tasks, on a thread of its own: a disk may be slow."""

    def __init__(self, book: TaskBook) -> None:
        self._book = book
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="gateway-tasks")

    def take(self, result: TaskResult) -> None:
        self._writer.submit(self._keep_result, result)

    def close(self) -> None:
        self._writer.shutdown(wait=True)

    def _keep_result(self, result: TaskResult) -> None:
        try:
            self._book.finish(result)
        except PropellerError as error:
            _log.error("result not kept: %s", error, extra={"task_id": result.task_id})


class Fleet:
    """Any thread."""

    def __init__(self, heard: Heard, book: TaskBook) -> None:
        self._heard = heard
        self._book = book
        self._turn = 0

    def proplets(self) -> list[dict[str, Any]]:
        with self._heard.lock:
            return [_shown(proplet) for _, proplet in sorted(self._heard.proplets.items())]

    def proplet(self, proplet_id: str) -> dict[str, Any]:
        with self._heard.lock:
            found = self._heard.proplets.get(proplet_id)
            if found is None:
                raise Refusal(404, f"there is no proplet {proplet_id}", where="proplet_id")
            return _shown(found)

    def create(self, wanted: Mapping[str, Any]) -> Task:
        """Take a task down; it is not started."""
        if not wanted.get("name"):
            raise Refusal(400, "name is missing", where="name")
        if wanted.get("broadcast") and wanted.get("proplet_id"):
            raise Refusal(400, "broadcast and proplet_id exclude each other", where="broadcast")
        start = TaskStart.decode(encoded({**wanted, "id": str(uuid.uuid4())}))
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

    def start(self, task_id: str) -> Task:
        """Give a task to its proplet, or to one that is alive."""
        task = self.task(task_id)
        if task.state is TaskState.RUNNING:
            raise Refusal(409, "the task runs already", where="task_id")
        if task.state in ENDED:  # a proplet answers a known id with its old result
            raise Refusal(409, "the task has ended", hint="create it anew")
        start = task.start
        topic = self._heard.topics.task_start
        if not start.broadcast:
            proplet = self._choose(start.proplet_id)
            start = replace(start, proplet_id=proplet.discovery.proplet_id)
            if proplet.discovery.metadata.get("own_start_topic") == "true":
                topic = self._heard.topics.task_start_of(start.proplet_id)
        running = replace(
            task, start=start, state=TaskState.RUNNING, start_time=now(), updated_at=now()
        )
        self._book.put(running)  # before a result can come
        try:
            self._heard.publish(topic, start.encode())
        except (LinkError, MessageError):
            self._book.put(task)
            raise
        return running

    def stop(self, task_id: str) -> Task:
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
        known = self._heard.proplets.get(stop.proplet_id)
        metadata = known.discovery.metadata if known else {}
        self._heard.publish(
            self._heard.topics.task_stop_of(stop.proplet_id)
            if metadata.get("own_start_topic") == "true"
            else self._heard.topics.task_stop,
            stop.encode(),
        )
        return interrupted

    def delete(self, task_id: str) -> None:
        if self.task(task_id).state is TaskState.RUNNING:
            raise Refusal(409, "the task runs", where="task_id", hint="stop it first")
        self._book.delete(task_id)

    def _choose(self, proplet_id: str) -> Proplet:
        with self._heard.lock:
            alive = [p for _, p in sorted(self._heard.proplets.items()) if p.alive]
            if proplet_id:
                alive = [p for p in alive if p.discovery.proplet_id == proplet_id]
            if not alive:
                whose = f"proplet {proplet_id} is not" if proplet_id else "no proplet is"
                raise Refusal(
                    409, f"{whose} alive", where="proplet_id", hint="start one, and try again"
                )
            self._turn += 1
            return alive[self._turn % len(alive)]


def _shown(proplet: Proplet) -> dict[str, Any]:
    return {
        "id": proplet.discovery.proplet_id,
        "name": proplet.discovery.proplet_id,
        "task_count": 0,
        "alive": proplet.alive,
        "last_alive_at": proplet.heard_at,
        "metadata": dict(proplet.discovery.metadata),
    }
