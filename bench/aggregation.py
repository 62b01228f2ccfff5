"""What an aggregator saves on the line upstream, beside the same devices without one.

    python bench/aggregation.py [--devices 10,50] [--rounds 3] [--update-format cbor] [--idle-s 20]

The same devices, data and rounds twice: each device with a session of its own upstream, and all of
them behind one aggregator. What goes over the line is counted by a relay of ours before the broker
upstream: bytes of TCP's payload, MQTT and all, without TLS and headers of TCP and IP. All processes
are threads of this one but for the brokers; the modules are run for real. The models that come of
both are compared at the end, since what is saved must cost nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from propeller_fl import config, datasets, log
from propeller_fl.config import PropletConfig, Settings
from propeller_fl.deployment import Deployment, Role
from propeller_fl.link import BrokerAddress
from propeller_fl.operator import Operator
from propeller_fl.proplet import PropletHost, data_source
from propeller_fl.wire import (
    Format,
    LaunchReport,
    RoundComplete,
    RoundStart,
    Tensors,
    Topics,
    UpdateFormat,
    model_uri,
)

MODEL = "softmax:64x10"
HYPERPARAMS = {"epochs": 1, "lr": 0.1, "batch_size": 16}
AGGREGATOR = "aggregator-1"
MOST_SAMPLES = 200
ROUND_S = 600.0
PATIENCE_S = 120.0
HEARTBEAT_S = 10.0  # the default. Nothing is sent again because this machine is slow


@dataclass(frozen=True)
class Traffic:
    """Bytes over the line: to the devices' side, and from there."""

    down: int = 0
    up: int = 0

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.down - other.down, self.up - other.up)


@dataclass(frozen=True)
class Found:
    """One side: ``later`` is the least of the rounds after the first."""

    first: Traffic
    later: Traffic
    idle_a_minute: Traffic
    model: Tensors


class Line:
    """A relay before ``broker`` that counts. A context manager; ``address`` is where it listens."""

    def __init__(self, broker: BrokerAddress) -> None:
        self._broker = broker
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.down = self.up = 0
        self.address = broker

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _hang_up(self) -> None:
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.down, self.up)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._broker.host, self._broker.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, up: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65_536):
                    self.up += len(data) * up
                    self.down += len(data) * (not up)
                    sink.write(data)
                    await sink.drain()
            sink.close()

        with contextlib.suppress(asyncio.CancelledError):  # we end, and asyncio would complain
            await asyncio.gather(pump(reader, back, True), pump(there, writer, False))


def settings(directory: Path, **others: Any) -> Settings:
    """Of a deployment with a broker of its own, all ports free ones."""
    flags = {
        "data_dir": directory,
        "broker.port": 0,
        "model_server.http_port": 0,
        "model_server.models_dir": directory / "models",
        "model_server.initial_model": MODEL,
        "model_server.initial_format": "cbor",
        "coordinator.model_format": "cbor",
    }
    return config.load(
        environ={}, flags=flags | {name.replace("__", "."): one for name, one in others.items()}
    )


@contextlib.contextmanager
def devices(ids: list[str], broker: BrokerAddress, directory: Path) -> Iterator[None]:
    """Each by itself: a session, subscriptions and a runtime of its own, as on as many machines."""
    with contextlib.ExitStack() as stack:
        for name in ids:
            host = PropletHost(
                broker,
                Topics(),
                PropletConfig(
                    ids=(name,), workers=1, heartbeat_s=HEARTBEAT_S, resend_after_s=ROUND_S
                ),
                data=data_source(str(directory / "data"), (name,)),
                cache_dir=directory / "compiled",
            )
            stack.enter_context(host)
            host.wait_connected(PATIENCE_S)
        yield


def measure(
    ids: list[str], directory: Path, options: argparse.Namespace, *, aggregated: bool
) -> Found:
    """Rounds of all devices, behind an aggregator or not."""
    above = settings(directory / "above")
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(Deployment(above, Role.BROKER | Role.SERVICES))
        line = stack.enter_context(Line(up.address))
        broker, names = line.address, ids
        if aggregated:
            url = f"mqtt://{broker.host}:{broker.port}"
            edge = settings(
                directory / "edge",
                aggregator__id=AGGREGATOR, aggregator__upstream_url=url,
                aggregator__devices=len(ids),
            )  # fmt: skip
            roles = Role.BROKER | Role.SERVICES | Role.AGGREGATOR
            broker, names = stack.enter_context(Deployment(edge, roles)).address, [AGGREGATOR]
        stack.enter_context(devices(ids, broker, directory))
        operator = stack.enter_context(Operator(up.address, Topics(), timeout_s=PATIENCE_S))
        before, taken, uri = line.traffic, [], model_uri(0)
        for number in range(options.rounds):
            uri = round_of(operator, f"bench-{number}", uri, names, options.update_format)
            time.sleep(1.0)  # answers and results are under way
            taken.append(line.traffic - before)
            before = line.traffic
        time.sleep(options.idle_s)
        idle = line.traffic - before
        return Found(
            taken[0],
            least_of(taken[1:]),
            Traffic(*(round(n * 60 / options.idle_s) for n in (idle.down, idle.up))),
            operator.model(uri)[0].tensors,
        )


def least_of(taken: list[Traffic]) -> Traffic:
    """What is more in another round was sent again, because this machine had no time."""
    return Traffic(min(one.down for one in taken), min(one.up for one in taken))


def round_of(
    operator: Operator, round_id: str, uri: str, names: list[str], update_format: str
) -> str:
    """The topic of the model that it makes."""
    start = RoundStart(
        round_id, uri, "builtin:softmax", tuple(names), HYPERPARAMS, len(names), ROUND_S,
        update_format=UpdateFormat(update_format),
    )  # fmt: skip
    operator.start_round(start)
    for event in operator.watch(round_id, ROUND_S):
        if isinstance(event, LaunchReport):
            assert not event.failed, event
        if isinstance(event, RoundComplete):
            assert event.num_updates == len(names), event
            return event.model_topic
    raise AssertionError(f"round {round_id} was refused")


def share_out(ids: list[str], directory: Path) -> None:
    """As many digits for each, and no more than the module has room for."""
    directory.mkdir()
    digits = datasets.load("digits")
    for name, rows in zip(ids, datasets.iid(digits, len(ids)), strict=True):
        (directory / f"{name}.json").write_bytes(
            digits.take(rows[:MOST_SAMPLES]).encode(Format.JSON)
        )


def largest_difference(one: Tensors, other: Tensors) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", default="10,50", help="numbers of devices, with commas")
    parser.add_argument("--rounds", type=int, default=4, help="at least 2")
    parser.add_argument("--update-format", default="cbor", choices=list(UpdateFormat))
    parser.add_argument("--idle-s", type=float, default=20.0)
    options = parser.parse_args()
    log.configure("error", as_json=False)
    print(f"{MODEL}, updates as {options.update_format}; bytes over the line, down + up")
    print("| devices | | first round | each later round | idle, a minute | up, later |")
    print("|--:|---|--:|--:|--:|--:|")
    for count in map(int, options.devices.split(",")):
        ids = [f"device-{number:03d}" for number in range(count)]
        found = []
        for aggregated in (False, True):
            with tempfile.TemporaryDirectory() as directory:
                share_out(ids, Path(directory) / "data")
                found.append(measure(ids, Path(directory), options, aggregated=aggregated))
        for name, one in zip(("flat", "aggregator"), found, strict=True):
            cells = (f"{t.down:,} + {t.up:,}" for t in (one.first, one.later, one.idle_a_minute))
            ratio = f"1/{found[0].later.up / one.later.up:.1f}"
            print(f"| {count} | {name} | {' | '.join(cells)} | {ratio} |", flush=True)
        difference = largest_difference(found[0].model, found[1].model)
        print(f"| | | models differ by at most {difference:.1e} | | | |", flush=True)


if __name__ == "__main__":
    main()
