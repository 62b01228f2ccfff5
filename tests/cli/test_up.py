"""The seed's walk-through, with the real command in a real process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import wasmtime

from propeller_fl.link import BrokerAddress
from tests.support.peers import peer_at
from tests.support.wait import wait_until

# byte for byte what the walk-through publishes
SEED = b"""{
  "round_id": "r-0001",
  "model_uri": "fl/models/global_model_v0",
  "task_wasm_image": "oci://example/fl-client-wasm:latest",
  "participants": ["proplet-1", "proplet-2", "proplet-3"],
  "hyperparams": {"epochs": 1, "lr": 0.01, "batch_size": 16},
  "k_of_n": 3,
  "timeout_s": 30
}"""


def command(directory: Path, port: int, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "propeller_fl", "--data-dir", str(directory / "state"),
        "--set", f"broker.port={port}", "--set", "model_server.http_port=0",
        "--set", "dashboard.http_port=0",
        "--set", f"model_server.models_dir={directory / 'models'}", *arguments,
    ]  # fmt: skip


@contextlib.contextmanager
def up(directory: Path, port: int, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / "up.log"
    options = [word for setting in settings for word in ("--set", setting)]
    with log.open("ab") as out:
        process = subprocess.Popen(command(directory, port, *options, "up"), stdout=out, stderr=out)
    try:
        wait_until(
            lambda: process.poll() is not None or "ready: proplet-1" in log.read_text(),
            60,
            "`up` says that it is ready, or ends",
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_the_seeds_message_completes_a_round_as_it_stands(tmp_path: Path, port: int) -> None:
    with up(tmp_path, port) as process:
        with peer_at(BrokerAddress("127.0.0.1", port)) as peer:
            peer.subscribe("fl/rounds/r-0001/complete", "fl/models/global_model_v1")
            peer.publish("fl/rounds/start", SEED)
            complete = peer.wait_for("fl/rounds/r-0001/complete", timeout_s=30)
            assert complete["status"] == "complete"
            assert complete["num_updates"] == 3
            model = peer.wait_for("fl/models/global_model_v1")
            assert set(model) == {"w", "b", "version"}
            assert len(model["w"]) == 3
        assert (tmp_path / "models" / "global_model_v1.json").exists()
        log = (tmp_path / "up.log").read_text()
        assert "oci://example/fl-client-wasm:latest is mapped to builtin:linear" in log
        [page] = re.findall(r"ready: page at (\S+)", log)
        wait_until(
            lambda: "fl/models/global_model_v1" in httpx.get(f"{page}api/rounds/r-0001").text,
            60,
            "the page tells how the round ended",
        )

        listed = run(tmp_path, port, "round", "list", "--json")
        assert [row["complete"]["status"] for row in json.loads(listed)] == ["complete"]
        models = json.loads(run(tmp_path, port, "model", "list", "--json"))
        assert [row["version"] for row in models] == [0, 1]
        assert json.loads(run(tmp_path, port, "model", "get", "1")) == model
        again = run(
            tmp_path, port, "round", "start", "--image", "builtin:linear", "--round-id", "r-0002",
            "--participants", "proplet-1,proplet-2", "--param", "epochs=1",
            "--update-format", "cbor",
        )  # fmt: skip
        assert "complete" in again
        shown = run(tmp_path, port, "round", "show", "r-0002")
        assert "; updates in cbor" in shown
        assert "proplet-1 accepted" in shown
        assert run(tmp_path, port, "doctor").count("is sound") == 4  # databases and models

        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_deployment_that_is_killed_goes_on_where_it_was(tmp_path: Path, port: int) -> None:
    with up(tmp_path, port) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    with up(tmp_path, port):
        out = run(
            tmp_path, port, "round", "start", "--image", "builtin:linear",
            "--participants", "proplet-1,proplet-2,proplet-3",
        )  # fmt: skip
        assert "fl/models/global_model_v1" in out


LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'


def test_a_round_that_never_ends_is_stopped(tmp_path: Path, port: int) -> None:
    image = tmp_path / "loop.wasm"
    image.write_bytes(wasmtime.wat2wasm(LOOP))
    changes = {"task_wasm_image": str(image), "participants": ["proplet-1"], "k_of_n": 1}
    message = json.loads(SEED) | changes | {"timeout_s": 86_400}
    one_worker = up(tmp_path, port, "proplet.workers=1", "proplet.wall_time_s=600")
    with one_worker, peer_at(BrokerAddress("127.0.0.1", port)) as peer:
        peer.subscribe("fl/rounds/+/launch", "fl/rounds/+/complete", "control/proplet/results")
        peer.publish("fl/rounds/start", message)
        launch = "fl/rounds/r-0001/launch"
        peer.wait_for(launch, lambda report: report["launched"] == ["proplet-1"], timeout_s=60)
        said = run(tmp_path, port, "round", "stop", "r-0001", "--reason", "it loops")
        assert said == "failed: stopped by operator: it loops\n"
        result = peer.wait_for("control/proplet/results", timeout_s=60)
        assert result["task_id"] == "r-0001.proplet-1"
        assert result["error"], "it is told what became of its task"
        never = attempt(tmp_path, port, "round", "stop", "r-9999")
        assert never.returncode == 1
        assert "stopped before it was opened" in never.stderr
        peer.publish("fl/rounds/start", json.loads(SEED) | {"round_id": "r-0002"})
        complete = peer.wait_for("fl/rounds/r-0002/complete", timeout_s=60)
        assert complete["status"] == "complete"
        assert complete["model_version"] == 1, "no version was used up"


def run(directory: Path, port: int, *arguments: str) -> str:
    done = attempt(directory, port, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def attempt(directory: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(directory, port, *arguments), capture_output=True, text=True, timeout=60
    )
