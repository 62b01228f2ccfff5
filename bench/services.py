"""Rows that need a broker and processes: what waits for a coordinator, and the way of a task."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from propeller_fl.link import (
    BrokerAddress,
    BrokerSettings,
    EmbeddedBroker,
    Incoming,
    Link,
    LinkLoop,
)
from propeller_fl.manager import ImageLibrary
from propeller_fl.wire import (
    AckStatus,
    Format,
    Model,
    RoundComplete,
    TaskStart,
    Topics,
    UpdateAck,
    encode_document,
    model_uri,
)

SENDERS = 1_000
PARAMETERS = (240, 10)  # of W, beside 10 of b: about 10 KB in CBOR
PATIENCE_S = 120.0
ROUNDS = 5
TASKS = 60

_TOPICS = Topics()
_OURS = (_TOPICS.any_update, _TOPICS.proplet_results, _TOPICS.proplet_create)


def coordinator() -> tuple[float, float]:
    """Updates a second through a coordinator, to the end of their round; messages a second to a
    sink; both after they have waited for a process that stood still.

    The same messages by the same session on the same broker. The clock runs from the moment the
    process goes on, until the round's completion, or the sink's word that it has them all, is here.
    """
    with (
        _broker() as broker,
        tempfile.TemporaryDirectory() as directory,
        _Bench(broker) as bench,
    ):
        bench.link.publish(model_uri(0), _model().encode(Format.CBOR), retain=True)
        url = f"mqtt://{broker.host}:{broker.port}"
        service = _Process(
            ["-m", "propeller_fl", "--data-dir", directory, "--broker", url, "coordinator"],
            "ready: broker",
        )
        script = Path(__file__).with_name("sink.py")
        sink = _Process(
            [str(script), broker.host, str(broker.port), "fml/updates", str(SENDERS)], "ready"
        )
        with service, sink:
            sink_s, ours_s = [], []
            for number in range(ROUNDS):
                ours_s.append(_drain(bench, service, sink, f"bench-{number}"))
                sink_s.append(bench.sink_s)
    return SENDERS / min(ours_s), SENDERS / min(sink_s)


def task() -> tuple[float, float]:
    """Seconds from a task's publication to its update's arrival, less what the broker takes for the
    same way with nothing in between; that way; both medians."""
    with _broker() as broker, _Bench(broker) as bench, tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "p-1.json"
        data.write_text(json.dumps({"x": [[0.0] * 64], "y": [1]}))
        image = ImageLibrary({}).fetch("builtin:softmax").data
        digest = hashlib.sha256(image).hexdigest()
        bench.link.publish(f"fl/images/{digest}", image, retain=True)
        model = Model({"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}, 0)
        bench.link.publish(model_uri(0), model.encode(Format.CBOR), retain=True)
        url = f"mqtt://{broker.host}:{broker.port}"
        proplet = _Process(
            ["-m", "propeller_fl", "--data-dir", directory, "--broker", url]
            + ["proplet", "p-1", "--data", directory],
            "ready: p-1",
        )
        with proplet:
            bench.wait_for(_TOPICS.proplet_create)
            ways, echoes = [], []
            for number in range(TASKS):
                round_id = f"task-{number}"
                start = TaskStart(
                    f"{round_id}.p-1", "evaluate", "p-1", f"fl/images/{digest}",
                    {
                        "ROUND_ID": round_id, "MODEL_URI": model_uri(0), "HYPERPARAMS": "{}",
                        "FL_MODE": "evaluate", "FL_UPDATE_FORMAT": "cbor",
                    },
                )  # fmt: skip
                own, update = _TOPICS.task_start_of("p-1"), _TOPICS.update(round_id, "p-1")
                way_s, output = bench.round_trip(own, start.encode(), update)
                ways.append(way_s)
                ack = UpdateAck(
                    round_id, "p-1", AckStatus.ACCEPTED, hashlib.sha256(output).hexdigest()
                )
                bench.link.publish(_TOPICS.ack(round_id, "p-1"), ack.encode()).wait(PATIENCE_S)
                bench.wait_for(_TOPICS.proplet_results)
                echoes.append(bench.round_trip("bench/echo", start.encode(), "bench/echo")[0])
    way_s, echo_s = statistics.median(ways[5:]), statistics.median(echoes[5:])
    return way_s - 2 * echo_s, echo_s


class _Bench:
    """The session that plays manager, model server and operator."""

    def __init__(self, broker: BrokerAddress) -> None:
        self._loop = LinkLoop(name="bench")
        self.link = Link(self._loop, broker, "bench", clean_session=True)
        self._heard: queue.SimpleQueue[tuple[str, bytes, float]] = queue.SimpleQueue()
        self.sink_s = 0.0

    def __enter__(self) -> _Bench:
        self._loop.start()
        for topic in (*_OURS, "bench/+", "fl/rounds/+/status", "fl/rounds/+/complete"):
            self.link.subscribe(topic, self._hear)
        self.link.start()
        self.link.wait_connected(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close(1)
        self._loop.stop()

    def wait_for(self, topic: str, phase: str = "") -> tuple[bytes, float]:
        """The next message there, and when it came."""
        give_up_s = time.perf_counter() + PATIENCE_S
        while True:
            heard, payload, at_s = self._heard.get(timeout=give_up_s - time.perf_counter())
            if heard == topic and (not phase or json.loads(payload)["phase"] == phase):
                return payload, at_s

    def round_trip(self, topic: str, payload: bytes, answer: str) -> tuple[float, bytes]:
        """Seconds from a message to its answer, and the answer."""
        begin_s = time.perf_counter()
        self.link.publish(topic, payload)
        heard, at_s = self.wait_for(answer)
        return at_s - begin_s, heard

    def _hear(self, incoming: Incoming) -> None:
        self._heard.put((incoming.topic, incoming.payload, time.perf_counter()))
        incoming.ack()


class _Process:
    """A Python process that says when it is ready, and can be made to stand still."""

    def __init__(self, arguments: list[str], ready: str) -> None:
        self._arguments = arguments
        self._ready = ready

    def __enter__(self) -> _Process:
        self._log = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [sys.executable, *self._arguments], stdout=self._log, stderr=self._log
        )
        give_up_s = time.monotonic() + PATIENCE_S
        while self._ready.encode() not in self._said():
            if self._child.poll() is not None or time.monotonic() > give_up_s:
                raise RuntimeError(self._said().decode())
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._child.terminate()
        self._child.wait(30)
        self._log.close()

    def stand_still(self) -> None:
        os.kill(self._child.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._child.pid, signal.SIGCONT)

    def _said(self) -> bytes:
        return os.pread(self._log.fileno(), 1 << 20, 0)


def _drain(bench: _Bench, service: _Process, sink: _Process, round_id: str) -> float:
    start = {
        "round_id": round_id, "model_uri": model_uri(0), "task_wasm_image": "builtin:softmax",
        "participants": [f"p-{sender}" for sender in range(SENDERS)], "hyperparams": {},
        "k_of_n": SENDERS, "timeout_s": 600, "update_format": "cbor",
    }  # fmt: skip
    bench.link.publish(_TOPICS.round_start, json.dumps(start).encode())
    bench.wait_for(_TOPICS.status(round_id), "open")
    service.stand_still()
    sink.stand_still()
    sent = [
        bench.link.publish(_TOPICS.forwarded_updates, _update(round_id, sender))
        for sender in range(SENDERS)
    ]
    for delivery in sent:
        delivery.wait(PATIENCE_S)
    begin_s = time.perf_counter()
    sink.go_on()
    bench.sink_s = bench.wait_for("bench/done")[1] - begin_s
    begin_s = time.perf_counter()
    service.go_on()
    payload, at_s = bench.wait_for(_TOPICS.complete(round_id))
    complete = RoundComplete.decode(payload)
    if complete.num_updates != SENDERS:
        raise RuntimeError(f"{complete.num_updates} updates made {complete.model_topic}")
    return at_s - begin_s


def _model() -> Model:
    return Model({"W": np.zeros(PARAMETERS, np.float32), "b": np.zeros(10, np.float32)}, 0)


def _update(round_id: str, sender: int) -> bytes:
    rng = np.random.default_rng(sender)
    document = {
        "round_id": round_id,
        "proplet_id": f"p-{sender}",
        "base_model_uri": model_uri(0),
        "num_samples": 100,
        "metrics": {"loss": 0.5, "accuracy": 0.9},
        "update": {"W": rng.normal(size=PARAMETERS).astype(np.float32), "b": np.zeros(10)},
    }
    return encode_document(document, Format.CBOR)


@contextlib.contextmanager
def _broker() -> Iterator[BrokerAddress]:
    with tempfile.TemporaryDirectory() as directory:
        broker = EmbeddedBroker(
            Path(directory), BrokerSettings(port=0, redeliver_after_s=PATIENCE_S)
        )
        broker.start()
        try:
            yield broker.address
        finally:
            broker.stop()
