"""The desk that hands tasks to one firmware proplet and hears how they end.

In the cases about the proplet alone, the test sits here in place of manager, model server and
coordinator, so that it says exactly what reaches the board and when.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any, Final

from propeller_fl.wire import (
    AckStatus,
    FlSpec,
    TaskResult,
    TaskStart,
    Topics,
    UpdateAck,
    image_uri,
)
from tests.support.peers import Peer
from tests.support.wait import wait_until

PROPLET_ID: Final = "mcu-1"
WAIT_S: Final = 60.0
"""How long a board may take for anything that has no limit of its own."""


class Desk:
    """One proplet's, over a broker that ``peer`` is at. ``own_topics``: of one that speaks on
    topics of its own alone.
    """

    def __init__(
        self, peer: Peer, proplet_id: str = PROPLET_ID, *, own_topics: bool = False
    ) -> None:
        self.peer = peer
        self.topics = Topics()
        self.proplet_id = proplet_id
        self._numbers = itertools.count(1)
        topics = self.topics
        self._create, self._alive = topics.proplet_create, topics.proplet_alive
        self._results = topics.proplet_results
        if own_topics:
            self._create = topics.proplet_create_of(proplet_id)
            self._alive = topics.proplet_alive_of(proplet_id)
            self._results = topics.proplet_results_of(proplet_id)
        peer.subscribe(self._create, self._alive, self._results, topics.any_update)

    # what it says of itself

    def discovery(self, timeout_s: float = WAIT_S) -> Any:
        """How it introduced itself first."""
        return self._own(self._create, timeout_s)

    def alive(self, timeout_s: float = WAIT_S) -> Any:
        """Its first heartbeat."""
        return self._own(self._alive, timeout_s)

    def arrivals(self) -> int:
        """How often it has introduced itself: once a connection."""
        heard = map(json.loads, self.peer.heard(self._create))
        return sum(message["proplet_id"] == self.proplet_id for message in heard)

    def await_arrival(self, number: int, timeout_s: float = WAIT_S) -> None:
        wait_until(
            lambda: self.arrivals() >= number,
            timeout_s,
            f"{self.proplet_id} has introduced itself {number} times",
        )

    def await_offline(self, timeout_s: float = WAIT_S) -> None:
        """Wait for its last will, or its goodbye."""
        self.peer.wait_for(
            self._alive,
            lambda m: m["proplet_id"] == self.proplet_id and m["status"] == "offline",
            timeout_s=timeout_s,
        )

    # what it is given

    def image(self, data: bytes, sha256: str = "") -> str:
        """Put an image where it is fetched; ``sha256``: under another digest than its own."""
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        self.peer.publish(self.topics.image(sha256), data, retain=True)
        return sha256

    def task(
        self,
        sha256: str,
        env: Mapping[str, str] | None = None,
        task_id: str = "",
        fl: FlSpec | None = None,
        signatures: Mapping[str, bytes] | None = None,
    ) -> str:
        """Send a task and return its id at once. ``env`` has to say what ``fl`` says."""
        task_id = task_id or f"task-{next(self._numbers)}"
        start = TaskStart(
            id=task_id,
            name="hil",
            proplet_id=self.proplet_id,
            image_url=image_uri(sha256),
            image_sha256=sha256,
            env=dict(env or {}),
            fl=fl,
            image_signatures=signatures or {},
        )
        self.peer.publish(self.topics.task_start_of(self.proplet_id), start.encode())
        return task_id

    def run(self, image: bytes, env: Mapping[str, str] | None = None) -> TaskResult:
        """One task from image to result."""
        return self.result(self.task(self.image(image), env))

    def acknowledge(self, round_id: str, update: bytes) -> None:
        """Say, as the coordinator would, that an update is safe."""
        ack = UpdateAck(
            round_id=round_id,
            proplet_id=self.proplet_id,
            status=AckStatus.ACCEPTED,
            sha256=hashlib.sha256(update).hexdigest(),
        )
        self.peer.publish(self.topics.ack(round_id, self.proplet_id), ack.encode())

    # what comes back

    def results(self, task_id: str) -> list[TaskResult]:
        """All results of a task so far."""
        heard = map(TaskResult.decode, self.peer.heard(self._results))
        return [result for result in heard if result.task_id == task_id]

    def result(self, task_id: str, timeout_s: float = WAIT_S) -> TaskResult:
        """The result of a task."""
        return wait_until(lambda: self.results(task_id), timeout_s, f"a result of {task_id}")[0]

    def updates(self, round_id: str) -> list[bytes]:
        """Its updates of a round so far."""
        return self.peer.heard(self.topics.update(round_id, self.proplet_id))

    def update(self, round_id: str, *, number: int = 1, timeout_s: float = WAIT_S) -> bytes:
        """Its update of a round, or the ``number``-th."""
        what = f"update {number} of {self.proplet_id} for {round_id}"
        wait_until(lambda: len(self.updates(round_id)) >= number, timeout_s, what)
        return self.updates(round_id)[number - 1]

    def _own(self, topic: str, timeout_s: float) -> Any:
        return self.peer.wait_for(
            topic, lambda message: message["proplet_id"] == self.proplet_id, timeout_s=timeout_s
        )
