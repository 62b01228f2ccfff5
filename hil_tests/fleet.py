"""A whole deployment on the digits: services and Wasmtime proplets here, firmware on the boards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from propeller_fl import config, datasets
from propeller_fl.datasets import Dataset
from propeller_fl.deployment import Deployment, Role
from propeller_fl.firmware import DeviceSetup
from propeller_fl.link import BrokerAddress
from propeller_fl.manager import ImageLibrary
from propeller_fl.proplet import Invocation, WasmtimeRuntime
from propeller_fl.wire import Format, Update, model_uri
from tests.support.peers import Peer
from tests.support.wait import wait_until

ROUND_S: Final = 120
"""A round's deadline; nothing here is meant to reach it."""

IMAGE: Final = "builtin:softmax"
MODEL: Final = "softmax:64x32x10"
HYPERPARAMS: Final = {"epochs": 5, "lr": 0.5, "batch_size": 16}


@dataclass(frozen=True)
class Fleet:
    """The operator's side of it. Proplets: ``hosted`` on Wasmtime, ``boards`` by id."""

    address: BrokerAddress
    peer: Peer
    data_dir: Path
    hosted: tuple[str, ...]
    boards: tuple[str, ...]
    test: Dataset

    def setup(self, proplet_id: str) -> DeviceSetup:
        """What a board is told, its share of the digits included."""
        return DeviceSetup(proplet_id, self.address, self.data_dir / f"{proplet_id}.cbor")

    def start_round(self, round_id: str, version: int = 0, **changes: Any) -> None:
        """Ask for a round of everybody on model ``version``; returns at once."""
        everybody = self.hosted + self.boards
        self.peer.subscribe(f"fl/rounds/{round_id}/complete", f"fl/rounds/{round_id}/updates/+")
        message = {
            "round_id": round_id,
            "model_uri": model_uri(version),
            "task_wasm_image": IMAGE,
            "participants": everybody,
            "hyperparams": HYPERPARAMS,
            "k_of_n": len(everybody),
            "timeout_s": ROUND_S,
            "update_format": "cbor",
        }
        self.peer.publish("fl/rounds/start", message | changes)

    def completion(self, round_id: str) -> Any:
        """How the round ended."""
        return self.peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=ROUND_S + 30)

    def accuracy(self, version: int) -> float:
        """Of a published model, on the test samples, which nobody trains on."""
        topic = model_uri(version)
        model = wait_until(lambda: self.peer.heard(topic), 15, f"a model on {topic}")[0]
        env = {
            "ROUND_ID": "judge",
            "MODEL_URI": topic,
            "HYPERPARAMS": "{}",
            "FL_MODE": "evaluate",
        }
        files = {"model": model, "data": self.test.encode(Format.CBOR)}
        with WasmtimeRuntime() as runtime:
            module = runtime.compile(ImageLibrary({}).fetch(IMAGE).data)
            evaluation = runtime.run(module, Invocation(env, files))
        return Update.decode(evaluation.stdout).metrics["accuracy"]


@contextlib.contextmanager
def digits_fleet(
    directory: Path, address: BrokerAddress, peer: Peer, hosted: int, boards: Sequence[str]
) -> Iterator[Fleet]:
    """Services and ``hosted`` Wasmtime proplets; each proplet has an equal share, drawn at random.

    The boards are the caller's to start.
    """
    hosted_ids = tuple(f"proplet-{number}" for number in range(1, hosted + 1))
    train, test = datasets.split(datasets.load("digits"))
    ids = (*hosted_ids, *boards)
    data_dir = directory / "data"
    data_dir.mkdir()
    for proplet_id, part in zip(ids, datasets.iid(train, len(ids)), strict=True):
        (data_dir / f"{proplet_id}.cbor").write_bytes(train.take(part).encode(Format.CBOR))
    flags = {
        "data_dir": str(directory / "state"),
        "broker.url": f"mqtt://{address.host}:{address.port}",
        "model_server.models_dir": str(directory / "models"),
        "model_server.initial_model": MODEL,
        "model_server.initial_format": "cbor",
        "model_server.http_port": 0,
        "coordinator.model_format": "cbor",
        "proplet.ids": hosted_ids,
        "proplet.data": str(data_dir),
        "proplet.resend_after_s": 1,
    }
    settings = config.load(environ={}, flags=flags)
    peer.subscribe("fl/models/+")
    with Deployment(settings, Role.SERVICES | Role.PROPLETS):
        yield Fleet(address, peer, data_dir, hosted_ids, tuple(boards), test)
