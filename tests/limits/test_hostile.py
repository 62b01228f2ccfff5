"""Documents and topics at the edge of what there can be, on every topic a service listens on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from propeller_fl.errors import MessageError
from tests.support.foreign import ForeignClient
from tests.support.peers import Peer
from tests.support.rounds import start_message
from tests.support.services import Service, running

from .conftest import Deployment, run_round

TOPICS = (
    "fl/rounds/start",
    "fl/rounds/r-0/updates/proplet-1",
    "fml/updates",
    "fl/models/publish",
    "fl/models/global_model_v9",
    "fl/rounds/r-0/stop",
    "fl/rounds/r-0/launch",
    "fl/rounds/r-0/status",
    "fl/rounds/r-0/complete",
    "control/proplet/create",
    "control/proplet/alive",
    "control/proplet/results",
    "control/manager/start",
    "control/manager/start/proplet-1",
    "control/manager/stop",
    "control/manager/stop/proplet-1",
    "fl/rounds/r-0/acks/proplet-1",
    "fl/experiments/start",
    "fl/experiments/x-0/command",
)
MEMORY_BYTES = 512 * 1024 * 1024  # of each process, whatever is sent; 234 MiB was seen
LONGEST_LINE = 6_000


def nested(depth: int) -> list[bytes]:
    lists = b"[" * depth + b"]" * depth
    return [
        lists,
        b"[" * depth,
        b'{"a":' * depth + b"1" + b"}" * depth,
        b"\xa1\x61a" * depth + b"\x01",
        b"\x9f" * depth,
        *(
            b'{"round_id":"r-0","proplet_id":"proplet-1","task_id":"r-0.proplet-1","%s":%s}'
            % (field, lists)
            for field in (b"participants", b"update", b"metadata", b"results", b"env", b"version")
        ),
    ]


def strange_ids() -> list[bytes]:
    ids = (
        "r" * 100_000,
        "r\0",
        "..",
        "r/../../etc",
        "r\n2026-11-25T00:00:00.000Z ERROR   coordinator  forged",
        "\x1b[2J\x1b]0;title\x07",
        "\u202e\u2028\ud800",
    )
    names = (
        "experiment_id",
        "round_id",
        "proplet_id",
        "task_id",
        "id",
        "namespace",
        "error",
        "model_uri",
    )
    half = "\ud800"  # of a character
    documents = [
        *(dict.fromkeys(names, text) for text in ids),
        {"proplet_id": "stranger", "namespace": half, "metadata": {half: half}},
        {"task_id": "r-0.proplet-1", "proplet_id": "proplet-1", "error": half, "results": half},
    ]
    return [json.dumps(document).encode() for document in documents] + [
        b'{"round_id": "\xff\xfe", "proplet_id": "\xff"}'
    ]


def long_topics() -> list[bytes]:
    longest = 65_535
    return [
        b"a" * longest,
        b"a/" * (longest // 2),
        b"fl/rounds/" + b"r" * (longest - 20) + b"/updates/p",
        b"fl/rounds/r-0/updates/" + b"p" * (longest - 22),
        b"fl/models/" + b"m" * (longest - 10),
        b"fl/rounds/r\0/updates/p",
        b"fl/rounds/\xff\xfe/updates/p",
        b"fl/rounds/r x/updates/p",
        "fl/rounds/r\u2028/updates/p".encode(),
        b"fl/rounds/\x1b[31m/updates/p\n",
    ]


def test_nobody_is_harmed(deployment: Deployment, peer: Peer) -> None:
    experiments = Service(deployment.directory, deployment.broker.address, "experiment", "serve")
    with running(experiments):
        harm(deployment, peer)
        peer.subscribe("fl/experiments/x/status")
        start = {"experiment_id": "x", "task_wasm_image": "builtin:linear", "stop": {"rounds": 0}}
        peer.publish("fl/experiments/start", start)
        refused = peer.wait_for("fl/experiments/x/status", timeout_s=60)
        assert refused["reason"] == "bad_field", "it is there, after all that"
        for service in (*deployment.services, experiments):
            assert_unharmed(service)


def harm(deployment: Deployment, peer: Peer) -> None:
    """Send everything everywhere; a round goes well after it."""
    for topic in TOPICS:
        for payload in (*nested(100), *nested(990), *nested(10_000), *strange_ids()):
            peer.send(topic, payload)
    with ForeignClient(deployment.broker.address) as foreign:
        for hostile in long_topics():  # taken or not, as the broker likes
            foreign.publish(hostile, b"{}")
    with pytest.raises(MessageError, match="longer than 65535 bytes"):  # not sent at all
        peer.publish("a" * 65_536, b"")
    refuse_a_million_participants(peer)
    run_round(peer, "r-1")


def assert_unharmed(service: Service) -> None:
    assert service.running
    assert "Traceback" not in service.log, service.log[service.log.index("Traceback") :][:3000]
    lines = service.log.splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < LONGEST_LINE
    assert not any(line.startswith("2026-11-25T00:00:00.000Z") for line in lines)
    assert peak_memory_bytes(service.pid) < MEMORY_BYTES, service.name


def refuse_a_million_participants(peer: Peer) -> None:
    peer.subscribe("fl/rounds/r-many/status", "fl/rounds/r-most/status")
    same = start_message("r-many", participants=["a"] * 1_000_000)
    peer.publish("fl/rounds/start", json.dumps(same, separators=(",", ":")).encode())
    # as many different ones as fit in a message
    most = start_message("r-most", participants=[f"{number:x}" for number in range(900_000)])
    peer.publish("fl/rounds/start", json.dumps(most, separators=(",", ":")).encode())
    for round_id, count in (("r-many", 1_000_000), ("r-most", 900_000)):
        status = peer.wait_for(f"fl/rounds/{round_id}/status", timeout_s=60)
        assert (status["phase"], status["reason"]) == ("refused", "bad_field")
        assert f"participants has {count} names (from 1 to 100000)" in status["detail"]
    full = json.dumps(start_message("r", participants=[f"p-{n}" for n in range(1_000_000)]))
    with pytest.raises(MessageError, match="over the limit"):
        peer.publish("fl/rounds/start", full.encode())


def peak_memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")
