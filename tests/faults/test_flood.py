"""Thousands of updates at once, behind a coordinator that stands still."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from propeller_fl import datasets
from propeller_fl.link import BrokerSettings
from propeller_fl.wire import Format
from tests.faults.crowd import crowd
from tests.faults.expected import BASE_MODEL, HYPERPARAMS, IMAGE, average, trainer
from tests.faults.processes import SERVICES, Processes
from tests.faults.rounds import FULL
from tests.support.brokers import RunningBroker, embedded_broker, freeze, mosquitto
from tests.support.peers import peer_at
from tests.support.wait import wait_until

SIZE = 20_000 if FULL else 2_000
STOPPED_S = 10.0 if FULL else 3.0
TIMEOUT_S = 900.0

MIB = 1024 * 1024
SERVICE_BYTES = 128 * MIB
BROKER_BYTES = 256 * MIB
"""What no process may ever take (see docs/reliability.md): about twice, and four times, as much as
they do."""

DEBIANS = "persistence true\n"  # what its mosquitto.conf says, but for places of files


@pytest.mark.timeout(1800)
def test_a_flood_on_the_embedded_broker_loses_nothing(tmp_path: Path) -> None:
    with embedded_broker(tmp_path, BrokerSettings()) as broker:
        sends = flood(tmp_path, broker, resend_after_s=2 * TIMEOUT_S)
    assert sends == SIZE, "nobody had to send twice"


@pytest.mark.timeout(1800)
def test_a_flood_on_a_stock_mosquitto_is_made_good(tmp_path: Path) -> None:
    with mosquitto(tmp_path, config=DEBIANS) as broker:
        sends = flood(tmp_path, broker, resend_after_s=5.0)
    assert sends > SIZE
    log = (tmp_path / "mosquitto" / "mosquitto.log").read_text()
    assert "messages are being dropped for client coordinator" in log, "there was a loss at all"


def flood(directory: Path, broker: RunningBroker, *, resend_after_s: float) -> int:
    """A round of SIZE proplets, all of whose updates come while the coordinator is stopped.

    Returns how many updates were sent for it, repeats included.
    """
    updates = train(directory)
    processes = Processes(directory, broker, proplets=())
    with contextlib.ExitStack() as stack:
        stack.callback(processes.stop)
        processes.start()
        peer = stack.enter_context(peer_at(broker.address))
        peer.subscribe("fl/rounds/r-1/status", "fl/rounds/r-1/complete")
        peer.publish("fl/rounds/start", start_of(updates))
        peer.wait_for("fl/rounds/r-1/status", lambda status: status["phase"] == "open")
        senders = stack.enter_context(
            crowd(broker.address, "r-1", updates, resend_after_s=resend_after_s)
        )

        coordinator = processes["coordinator"].pid
        freeze(coordinator)
        stopped_at_s = time.monotonic()
        senders.send()
        wait_until(
            lambda: senders.taken == SIZE and time.monotonic() - stopped_at_s > STOPPED_S,
            TIMEOUT_S,
            "the broker has every update",
        )
        os.kill(coordinator, signal.SIGCONT)
        wait_until(lambda: senders.answered == SIZE, TIMEOUT_S, "every update is answered")
        complete = peer.wait_for("fl/rounds/r-1/complete", timeout_s=60)

        assert senders.accepted == set(updates)
        assert (complete["status"], complete["num_updates"]) == ("complete", SIZE)
        assert (complete["refused"], complete["missing"]) == ({}, [])
        assert made(directory) == average(
            BASE_MODEL, (updates[proplet_id] for proplet_id in sorted(updates)), version=1
        )
        for name in SERVICES:
            assert peak_bytes(processes[name].pid) < SERVICE_BYTES, name
        assert peak_bytes(broker.pid) < BROKER_BYTES, "broker"
        return senders.sends


def train(directory: Path) -> dict[str, bytes]:
    """SIZE updates by proplet id, each trained on a few samples of its own."""
    samples = datasets.load("tumors")
    updates = {}
    with trainer(directory / "compiled") as training:
        for number in range(SIZE):
            own = np.arange(number, number + 4 + number % 8) % len(samples)
            proplet_id = f"p-{number:05d}"
            data = samples.take(own).encode(Format.JSON)
            updates[proplet_id] = training.update("r-1", proplet_id, data=data)
    return updates


def start_of(updates: dict[str, bytes]) -> dict[str, Any]:
    return {
        "round_id": "r-1",
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": IMAGE,
        "participants": list(updates),
        "hyperparams": HYPERPARAMS,
        "k_of_n": len(updates),
        "timeout_s": 3 * TIMEOUT_S,
    }


def made(directory: Path) -> bytes:
    """The model that the coordinator has made."""
    store = directory / "coordinator" / "rounds.db"
    with contextlib.closing(sqlite3.connect(store)) as database:
        (body,) = database.execute("SELECT body FROM models WHERE version = 1").fetchone()
    return bytes(body)


def peak_bytes(pid: int) -> int:
    """The most memory that a process has ever had in use."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None, status
    return int(match[1]) * 1024
