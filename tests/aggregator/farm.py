"""A deployment upstream with one proplet of its own, and two barns: each a broker, an aggregator
and three devices. All are processes; the modules are real ones."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from propeller_fl import datasets
from propeller_fl.link import BrokerAddress
from propeller_fl.wire import Format, Model, Tensors, Update
from tests.support.brokers import embedded_broker
from tests.support.peers import Peer, peer_at
from tests.support.services import Service

DIRECT = "direct"
BARNS = {"east": ("e-1", "e-2", "e-3"), "west": ("w-1", "w-2", "w-3")}
SAMPLES = dict(
    zip((DIRECT, *BARNS["east"], *BARNS["west"]), (90, 7, 160, 31, 64, 1, 120), strict=True)
)
_OWN_BROKER = "east"  # the other one's is a broker that was there before


@dataclass(frozen=True)
class Barn:
    """``peer`` hears the local rounds."""

    aggregator: Service
    devices: Service
    peer: Peer
    samples: int


@dataclass(frozen=True)
class Farm:
    """``peer`` hears upstream."""

    peer: Peer
    barns: Mapping[str, Barn]

    def start_round(self, round_id: str, participants: list[str], **changes: Any) -> None:
        self.peer.publish(
            "fl/rounds/start",
            {
                "round_id": round_id,
                "model_uri": "fl/models/global_model_v0",
                "task_wasm_image": "builtin:softmax",
                "participants": participants,
                "hyperparams": {"epochs": 2, "lr": 0.1, "batch_size": 16},
                "k_of_n": len(participants),
                "timeout_s": 3600,
            }
            | changes,
        )

    def end_of(self, round_id: str) -> dict[str, Any]:
        complete: dict[str, Any] = self.peer.wait_for(
            f"fl/rounds/{round_id}/complete", timeout_s=120
        )
        return complete

    def model(self, uri: str) -> Tensors:
        self.peer.wait_for_bytes(uri, timeout_s=60)
        return Model.decode(self.peer.heard(uri)[-1]).tensors


def update_of(peer: Peer, round_id: str, proplet_id: str) -> Update:
    """The one that this proplet has sent: however often, always the same bytes."""
    topic = f"fl/rounds/{round_id}/updates/{proplet_id}"
    peer.wait_for_bytes(topic, timeout_s=60)
    [payload] = set(peer.heard(topic))
    return Update.decode(payload)


@contextlib.contextmanager
def farm(directory: Path) -> Iterator[Farm]:
    data = directory / "data"
    _write_data(data)
    with contextlib.ExitStack() as stack:
        above = stack.enter_context(embedded_broker(directory / "above"))
        quick = ["proplet.heartbeat_s=1", f"proplet.data={data}", "dashboard.enabled=false"]
        # all devices are waited for, however slow the machine
        quick += ["aggregator.gather_s=300", "manager.liveness_timeout_s=300"]
        services = Service(
            directory / "up", above.address, "up", f"--proplets={DIRECT}",
            settings=[*quick, "model_server.initial_model=softmax:64x10"],
        )  # fmt: skip
        there = stack.enter_context(embedded_broker(directory / "there"))
        url = f"mqtt://{above.address.host}:{above.address.port}"
        aggregators = {
            name: Service(
                directory / name, None if name == _OWN_BROKER else there.address,
                "aggregate", f"--upstream={url}", f"--id={name}", f"--devices={len(ids)}",
                settings=[*quick, "broker.port=0"] if name == _OWN_BROKER else quick,
            )
            for name, ids in BARNS.items()
        }  # fmt: skip
        _start(stack, services, *aggregators.values())
        barns = {}
        for name, ids in BARNS.items():
            aggregators[name].wait_for(f"ready: aggregator {name}")
            address = _broker_of(aggregators[name])
            devices = Service(directory / f"{name}-dev", address, "proplet", *ids, settings=quick)
            peer = stack.enter_context(peer_at(address))
            peer.subscribe("fl/rounds/+/+", "fl/rounds/+/updates/+")
            samples = sum(SAMPLES[one] for one in ids)
            barns[name] = Barn(aggregators[name], devices, peer, samples)
        _start(stack, *(barn.devices for barn in barns.values()))
        peer = stack.enter_context(peer_at(above.address))
        peer.subscribe(
            "fl/rounds/+/+", "fl/rounds/+/updates/+", "fl/rounds/+/acks/+", "fl/models/+",
            "control/manager/start/+", "control/proplet/results",
        )  # fmt: skip
        yield Farm(peer, barns)


def _start(stack: contextlib.ExitStack, *services: Service) -> None:
    """All of them, ready; killed in the end, since a goodbye of each would take its time."""
    for service in services:
        stack.callback(service.stop, signal.SIGKILL)
        service.start()
    for service in services:
        service.wait_ready()


def _broker_of(aggregator: Service) -> BrokerAddress:
    found = re.search(r"ready: broker mqtt://([\d.]+):(\d+)", aggregator.log)
    assert found is not None, aggregator.log
    return BrokerAddress(found[1], int(found[2]))


def _write_data(directory: Path) -> None:
    """Shares of the digits, of very different sizes."""
    directory.mkdir()
    digits = datasets.load("digits")
    rows = np.random.default_rng(7).permutation(sum(SAMPLES.values()))
    ends = np.cumsum(list(SAMPLES.values()))
    for name, share in zip(SAMPLES, np.split(rows, ends[:-1]), strict=True):
        (directory / f"{name}.json").write_bytes(digits.take(share).encode(Format.JSON))
