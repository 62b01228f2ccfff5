"""An engine with its store, and a test in the place of thread, link and clock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator import Ack, Engine, Outgoing, Publish, Subscribe, Tell
from propeller_fl.errors import StoreError
from propeller_fl.link import Incoming
from propeller_fl.store import RoundStore
from propeller_fl.wire import Topics

V0 = {"w": [0.0, 0.0, 0.0], "b": 0.0, "version": 0}


def start(round_id: str = "r-1", **changes: Any) -> dict[str, Any]:
    return {
        "round_id": round_id,
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": "builtin:linear",
        "participants": ["a", "b", "c"],
        "hyperparams": {},
        "k_of_n": 1,
        "timeout_s": 60,
    } | changes


def update(proplet_id: str, round_id: str = "r-1", **changes: Any) -> dict[str, Any]:
    return {
        "round_id": round_id,
        "proplet_id": proplet_id,
        "base_model_uri": "fl/models/global_model_v0",
        "num_samples": 10,
        "metrics": {"loss": 1.0},
        "update": {"w": [1.0, 2.0, 3.0], "b": -1.0},
    } | changes


class FailsOnce(RoundStore):
    """Fails at what was asked for last in the next transaction."""

    fails = False

    def settle(self, owed_ids: Iterable[int]) -> None:
        super().settle(owed_ids)
        if self.fails:
            self.fails = False
            raise StoreError("the disk is full")


class Desk:
    """What is published is taken by the broker at once; ``retained`` is what it retains of rounds,
    ``models`` what the model server has put there."""

    def __init__(self, *, keep_rounds: int = 0, store: RoundStore | None = None) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.store = store or RoundStore(self.database)
        self.config = CoordinatorConfig(keep_rounds=keep_rounds)
        self.now_s = 1000.0
        self.acked: list[Incoming] = []
        self.said: list[Outgoing] = []
        self.published: list[Publish] = []
        self.retained: dict[str, bytes] = {}
        self.models: dict[str, Any] = {}
        self.restart()

    def restart(self) -> None:
        """As after a crash: the store is all that is left."""
        self.engine = Engine(Topics(), self.config, self.store)
        self.engine.resume(self.now_s)
        self._after = 0

    def send(self, *documents: tuple[str, Any], duplicate: bool = False) -> list[Incoming]:
        """Handle these ``(topic, document or bytes)`` as one batch; returns the messages."""
        batch = [
            Incoming(
                topic,
                document if isinstance(document, bytes) else json.dumps(document).encode(),
                retained=False,
                duplicate=duplicate,
                ack=self.acked.append,
            )
            for topic, document in documents
        ]
        outgoing = self.engine.handle(batch, self.now_s)
        self._say(outgoing)
        self.engine.aggregate_due(self.now_s)
        self._say(self.engine.take_statuses(self.now_s))
        for owed in self.engine.owed(self._after):
            self._after = owed.id
            self._publish(Publish(owed.topic, owed.payload, owed.retain))
            self.engine.delivered(owed.id)
        wanted = [one.topic for one in outgoing if isinstance(one, Subscribe)]
        found = [(topic, self.models[topic]) for topic in wanted if topic in self.models]
        if found:
            self.send(*found)
        return batch

    def start(self, *documents: dict[str, Any] | bytes, duplicate: bool = False) -> list[Incoming]:
        return self.send(*(("fl/rounds/start", d) for d in documents), duplicate=duplicate)

    def update(self, *documents: dict[str, Any] | bytes) -> list[Incoming]:
        return self.send(*(("fml/updates", d) for d in documents))

    def model(self, version: int, **changes: Any) -> list[Incoming]:
        topic, document = f"fl/models/global_model_v{version}", V0 | {"version": version} | changes
        self.models[topic] = document
        return self.send((topic, document))

    def run_round(self, round_id: str, **changes: Any) -> None:
        """A whole round, with one update."""
        self.start(start(round_id, **changes))
        self.update(update("a", round_id, base_model_uri=changes.get("model_uri", BASE)))

    def run_until(self, predicate: Callable[[], bool], steps: int = 100_000) -> None:
        """Let time pass, as often as the engine asks for it."""
        for _ in range(steps):
            if predicate():
                return
            self.now_s += min(1.0, max(0.0, self.engine.due_in_s(self.now_s)))
            self.send()
        raise AssertionError(f"still not true after {steps} turns")

    def heard(self, topic: str) -> list[Any]:
        """Every message published on this topic, decoded."""
        return [json.loads(p.payload) for p in self.published if p.topic == topic and p.payload]

    def count(self, table: str) -> int:
        [count] = self.database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)

    def _say(self, outgoing: list[Outgoing]) -> None:
        for one in outgoing:
            self.said.append(one)
            if isinstance(one, Ack):
                one.incoming.ack()
            elif isinstance(one, Publish):
                self._publish(one)
            elif isinstance(one, Tell):
                self._publish(Publish(one.topic, one.payload, retain=False))

    def _publish(self, message: Publish) -> None:
        self.published.append(message)
        if message.topic == "fl/models/publish":
            version = json.loads(message.payload)["version"]
            self.models[f"fl/models/global_model_v{version}"] = message.payload
        if message.retain and message.payload:
            self.retained[message.topic] = message.payload
        elif message.retain:
            self.retained.pop(message.topic, None)


BASE = "fl/models/global_model_v0"
