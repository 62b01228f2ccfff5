"""A model of 64 MiB, through a broker that takes 256 KiB in a message, into proplets' modules.

Real processes. None of them ever holds the model, and one that is killed goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from propeller_fl.link import BrokerSettings
from propeller_fl.store import manifest_of_file, write_large
from propeller_fl.wire import Manifest, Model
from tests.proplet.modules import client
from tests.support.brokers import RunningBroker, embedded_broker
from tests.support.peers import Peer, peer_at
from tests.support.services import Service, running
from tests.support.wait import wait_until

MIB: Final = 1024 * 1024
MODEL_MIB: Final = int(os.environ.get("PROPELLER_LARGE_MIB", "64"))
PART_BYTES: Final = 192 * 1024
PACKET_BYTES: Final = 256 * 1024

# What a process takes at rest, and well under that plus a model of 64 MiB. What is mapped of a file
# is the file system's cache; the kernel counts it apart.
MOST_ANONYMOUS: Final = 100 * MIB

ROUND_ID: Final = "r-large"
PROPLETS: Final = ("proplet-1", "proplet-2", "proplet-3")

_TEXT: Final = (
    f'{{"round_id":"{ROUND_ID}","base_model_uri":"fl/models/global_model_v0","num_samples":1,'
    '"update":{},"metrics":{"sum":0.'
)
_FIRST_DIGIT: Final = 64 + 5 + len(_TEXT)

# Reads /fl/model in blocks of 64 KiB, adds up its words, and reports the sum as a metric.
SUMMER: Final = client(
    f"""
    (local $fd i32) (local $offset i64) (local $n i32) (local $at i32) (local $sum i32)
    (local.set $fd (call $open (i32.const 64) (i32.const 5)))
    (block $end (loop $more
      (call $iovec (i32.const 65536) (i32.const 65536))
      (call $exit_on (call $fd_pread (local.get $fd) (i32.const 8) (i32.const 1)
        (local.get $offset) (i32.const 0)))
      (local.set $n (i32.load (i32.const 0)))
      (br_if $end (i32.eqz (local.get $n)))
      (local.set $offset (i64.add (local.get $offset) (i64.extend_i32_u (local.get $n))))
      (local.set $at (i32.const 65536))
      (loop $word
        (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br_if $word (i32.lt_u (local.get $at) (i32.add (i32.const 65536) (local.get $n)))))
      (br $more)))
    (local.set $at (i32.const {_FIRST_DIGIT + 9}))
    (loop $digit
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (local.get $sum) (i32.const 10))))
      (local.set $sum (i32.div_u (local.get $sum) (i32.const 10)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digit (i32.ge_u (local.get $at) (i32.const {_FIRST_DIGIT}))))
    (call $say (i32.const 1) (i32.const 69) (i32.const {len(_TEXT) + 12}))
    """,
    text="model" + (_TEXT + "0000000000}}").replace('"', '\\"'),
    pages="3",
)


class Memory:
    """The most that processes have had in memory of their own, looked at all the time."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}
        self._stop = threading.Event()

    @contextmanager
    def of(self, *services: Service) -> Iterator[None]:
        thread = threading.Thread(target=self._look, args=(services,))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(10)

    def _look(self, services: tuple[Service, ...]) -> None:
        while not self._stop.wait(0.02):
            for service in services:
                if service.running:
                    taken = anonymous_bytes(service.pid)
                    self.most[service.name] = max(taken, self.most.get(service.name, 0))


def anonymous_bytes(pid: int) -> int:
    """Memory that is no file's, in RAM now; 0 when the process has just gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def expected_sum(path: Path) -> float:
    """What the module reports."""
    words = np.memmap(path, "<u4", "r")
    return int(words.sum(dtype=np.uint64) & 0xFFFFFFFF) / 10**10


def begin(peer: Peer, image: Path) -> None:
    start = {
        "round_id": ROUND_ID,
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": str(image),
        "participants": PROPLETS,
        "hyperparams": {},
        "k_of_n": len(PROPLETS),
        "timeout_s": 600,
        "mode": "evaluate",
    }
    peer.subscribe(f"fl/rounds/{ROUND_ID}/complete", f"fl/rounds/{ROUND_ID}/status")
    peer.publish("fl/rounds/start", start)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    settings = BrokerSettings(redeliver_after_s=1.0, max_payload_bytes=PACKET_BYTES)
    with embedded_broker(tmp_path, settings) as running_broker:
        yield running_broker


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "large.safetensors"
    numbers = np.random.default_rng(3).standard_normal((MODEL_MIB, MIB // 4), np.float32)
    write_large(Model({"w": numbers}), path)
    return path


def services(directory: Path, broker: RunningBroker, model: Path) -> dict[str, Service]:
    settings = {
        "model-server": [f"model_server.initial_model={model}"],
        "proplet": [f"proplet.ids={','.join(PROPLETS)}", "proplet.fuel=1000000000000"],
    }
    return {
        name: Service(directory / name, broker.address, name, settings=settings.get(name, []))
        for name in ("model-server", "coordinator", "manager", "proplet")
    }


@pytest.mark.timeout(900)
def test_a_round_on_a_large_model_in_constant_memory(
    broker: RunningBroker, tmp_path: Path, model: Path
) -> None:
    assert manifest_of_file(model, 0, PART_BYTES).size_bytes > MODEL_MIB * MIB
    image = tmp_path / "summer.wasm"
    image.write_bytes(SUMMER)
    ours = services(tmp_path, broker, model)
    proplet = ours["proplet"]
    memory = Memory()
    with (
        memory.of(*ours.values()),
        running(*ours.values()),
        peer_at(broker.address) as peer,
    ):
        begin(peer, image)
        # killed in the middle, a proplet goes on with the parts it has
        part = only(tmp_path / "proplet" / "proplets" / "models", "*.part")
        wait_until(lambda: filled(part) > 0.2, 120, "a fifth of the model is there")
        proplet.stop(signal.SIGKILL)
        there = filled(part)
        proplet.forget_log()
        proplet.start()
        complete = peer.wait_for(f"fl/rounds/{ROUND_ID}/complete", timeout_s=600)
        assert complete["status"] == "complete", complete
        assert complete["num_updates"] == len(PROPLETS)
        assert complete["metrics"]["sum"] == pytest.approx(expected_sum(model), abs=1e-12)
        found = re.search(r"model 0: (\d+) of (\d+) parts are missing", proplet.log)
        assert found, proplet.log
        missing, all_parts = map(int, found.groups())
        assert missing <= all_parts * (1 - there) + 1
    print({name: f"{most / MIB:.0f} MiB" for name, most in memory.most.items()})
    assert len(memory.most) == len(ours)
    assert max(memory.most.values()) < MOST_ANONYMOUS, memory.most


def only(directory: Path, pattern: str) -> Path:
    return wait_until(lambda: list(directory.glob(pattern)), 60, f"{pattern} in {directory}")[0]


def filled(path: Path) -> float:
    """How much of a file is there: once it has a size, it is its whole one."""
    with path.open("rb") as file:
        parts = range(0, path.stat().st_size, PART_BYTES)
        return sum(any(os.pread(file.fileno(), 64, start)) for start in parts) / max(1, len(parts))


def test_a_strategy_that_cannot_work_on_parts_is_refused_at_once(
    broker: RunningBroker, tmp_path: Path
) -> None:
    model = tmp_path / "large.safetensors"
    write_large(Model({"w": np.ones(3 * MIB, np.float32)}), model)
    ours = services(tmp_path, broker, model)
    with (
        running(ours["model-server"], ours["coordinator"]),
        peer_at(broker.address) as peer,
    ):
        peer.subscribe("fl/models/global_model_v0", "fl/rounds/r-1/status")
        manifest = peer.wait_for_bytes("fl/models/global_model_v0", timeout_s=30)
        assert Manifest.decode(manifest) is not None
        start = {
            "round_id": "r-1",
            "model_uri": "fl/models/global_model_v0",
            "task_wasm_image": "builtin:linear",
            "participants": ["proplet-1"],
            "hyperparams": {},
            "k_of_n": 1,
            "timeout_s": 60,
            "strategy": "fedadam",
        }
        peer.publish("fl/rounds/start", json.dumps(start).encode())
        status = peer.wait_for("fl/rounds/r-1/status", timeout_s=30)
        assert (status["phase"], status["reason"]) == ("refused", "bad_field")
        assert "fedadam" in status["detail"]
