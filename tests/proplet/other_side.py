"""Whom a proplet talks to: manager, coordinator and model server, as one plain link."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from propeller_fl.link import Incoming, Link, LinkLoop
from propeller_fl.wire import (
    AckStatus,
    Alive,
    Discovery,
    Outcome,
    RoundComplete,
    TaskResult,
    TaskStart,
    TaskStop,
    Topics,
    UpdateAck,
)

from ..support.brokers import RunningBroker
from ..support.wait import wait_until
from .modules import client

PATIENCE_S = 20.0
MODEL_URI = "fl/models/global_model_v0"
MODEL = b'{"w":[0.0,0.0,0.0],"b":0.0,"version":0}'


def update(round_id: str = "r-1", **more: Any) -> dict[str, Any]:
    """An update document, without a sender."""
    return {
        "round_id": round_id,
        "base_model_uri": MODEL_URI,
        "num_samples": 7,
        "metrics": {"loss": 0.5},
        "update": {"w": [0.1, -0.2, 0.3], "b": 1.0},
        **more,
    }


def writes(document: Mapping[str, Any] | bytes) -> bytes:
    """A module that writes this and ends."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    escaped = "".join(f"\\{byte:02x}" for byte in data)
    return client(f"(call $say (i32.const 1) (i32.const 64) (i32.const {len(data)}))", text=escaped)


class OtherSide:
    """Publishes what they would, and keeps what they hear."""

    def __init__(self, loop: LinkLoop, broker: RunningBroker, topics: Topics) -> None:
        self.topics = topics
        self.heard: list[tuple[str, bytes]] = []
        self._link = Link(loop, broker.address, "other-side")
        for topic in (
            topics.proplet_create,
            topics.proplet_alive,
            topics.proplet_results,
            topics.any_update,
        ):
            self._link.subscribe(topic, self._hear)
        self._link.start()
        self._link.wait_connected(PATIENCE_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._link.publish(topic, payload, retain=retain).wait(PATIENCE_S)

    # what they say

    def publish_image(self, image: bytes) -> str:
        """Its topic, as a task names it."""
        url = f"fl/images/{hashlib.sha256(image).hexdigest()}"
        self.publish(self.topics.absolute(url), image, retain=True)
        return url

    def publish_model(self, uri: str = MODEL_URI) -> None:
        self.publish(self.topics.absolute(uri), MODEL, retain=True)

    def task(
        self,
        url: str,
        task_id: str = "t-1",
        *,
        proplet_id: str = "p-1",
        round_id: str = "r-1",
        model_uri: str = MODEL_URI,
        **env: str,
    ) -> TaskStart:
        env |= {"ROUND_ID": round_id, "MODEL_URI": model_uri}
        return TaskStart(task_id, "train", proplet_id, url, {k: v for k, v in env.items() if v})

    def give(self, task: TaskStart, *, shared: bool = False) -> TaskStart:
        own = self.topics.task_start_of(task.proplet_id)
        self.publish(self.topics.task_start if shared else own, task.encode())
        return task

    def run(self, image: bytes, task_id: str = "t-1", **task: str) -> TaskStart:
        """Publish image and model, and give the task."""
        self.publish_model()
        return self.give(self.task(self.publish_image(image), task_id, **task))

    def stop(self, task_id: str, proplet_id: str = "p-1") -> None:
        self.publish(self.topics.task_stop_of(proplet_id), TaskStop(task_id, proplet_id).encode())

    def answer(
        self, payload: bytes, status: AckStatus = AckStatus.ACCEPTED, *, reason: str = ""
    ) -> None:
        """Acknowledge an update of p-1 in round r-1."""
        digest = hashlib.sha256(payload).hexdigest()
        ack = UpdateAck("r-1", "p-1", status, digest, reason)
        self.publish(self.topics.ack("r-1", "p-1"), ack.encode())

    def close_round(self, round_id: str = "r-1") -> None:
        complete = RoundComplete(
            round_id, Outcome.COMPLETE, 1, MODEL_URI, 1, 7, "2024-01-01T00:00:00Z"
        )
        self.publish(self.topics.complete(round_id), complete.encode(), retain=True)

    # what they have heard, in order

    def updates(self, round_id: str = "r-1", proplet_id: str = "p-1") -> list[bytes]:
        return self._heard_on(self.topics.update(round_id, proplet_id))

    def results(self, task_id: str = "t-1") -> list[TaskResult]:
        results = map(TaskResult.decode, self._heard_on(self.topics.proplet_results))
        return [result for result in results if result.task_id == task_id]

    def alive(self, proplet_id: str = "p-1") -> list[str]:
        beats = map(Alive.decode, self._heard_on(self.topics.proplet_alive))
        return [beat.status for beat in beats if beat.proplet_id == proplet_id]

    def discoveries(self, proplet_id: str = "p-1") -> list[Discovery]:
        found = map(Discovery.decode, self._heard_on(self.topics.proplet_create))
        return [discovery for discovery in found if discovery.proplet_id == proplet_id]

    def wait_for_updates(self, count: int = 1, **whose: str) -> list[bytes]:
        return wait_until(
            lambda: self.updates(**whose) if len(self.updates(**whose)) >= count else [],
            PATIENCE_S,
            f"{count} updates have come",
        )

    def wait_for_result(self, task_id: str = "t-1", count: int = 1) -> TaskResult:
        """The last of so many results of a task."""
        wait_until(
            lambda: len(self.results(task_id)) >= count,
            PATIENCE_S,
            f"{count} results of task {task_id}",
        )
        return self.results(task_id)[-1]

    def _hear(self, incoming: Incoming) -> None:
        self.heard.append((incoming.topic, incoming.payload))
        incoming.ack()

    def _heard_on(self, topic: str) -> list[bytes]:
        return [payload for heard, payload in list(self.heard) if heard == topic]
