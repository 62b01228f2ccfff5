"""One trace a round, though nothing of it travels between those who make it."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from propeller_fl import config
from propeller_fl.config import TracingConfig
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ConfigError
from propeller_fl.observe import RoundEnded, open_traces
from tests.observe.scrape import scrape
from tests.support.brokers import RunningBroker
from tests.support.brokers import nats as nats
from tests.support.peers import peer_at
from tests.support.rounds import PROPLETS, start_message
from tests.support.wait import wait_until

WAIT_S = 60


def run_rounds(nats: RunningBroker, directory: Path) -> dict[str, list[dict[str, Any]]]:
    """The spans of two rounds by round id, from two processes' worth of services."""
    shared = {
        "broker.url": f"mqtt://{nats.address.host}:{nats.address.port}",
        "model_server.models_dir": str(directory / "models"),
        "model_server.http_port": 0,
        "tracing.enabled": True,
        "metrics.enabled": True,
        "metrics.http_port": 0,
    }
    files = [directory / "host.jsonl", directory / "proplets.jsonl"]
    host, proplets = (
        config.load(
            environ={},
            flags=shared | {"data_dir": str(directory / path.stem), "tracing.file": str(path)},
        )
        for path in files
    )
    with (
        Deployment(host, Role.SERVICES) as running,
        Deployment(proplets, Role.PROPLETS),
        peer_at(nats.address) as peer,
    ):
        peer.subscribe("fl/rounds/+/complete")
        for round_id, changes in (("r-1", {}), ("r-2", {"participants": ["x"], "k_of_n": 1})):
            timing = {"timeout_s": 1} if changes else {}
            peer.publish("fl/rounds/start", start_message(round_id, **changes, **timing))
            peer.wait_for(f"fl/rounds/{round_id}/complete", timeout_s=WAIT_S)

        def results() -> float:
            now = scrape(running.metrics_address)
            return now.value("propeller_fl_tasks_ended_total", status="done")

        wait_until(lambda: results() == len(PROPLETS), WAIT_S, "the manager has every result")
    spans = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    found: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        found.setdefault(span["context"]["trace_id"], []).append(span)
    roots = {}
    for trace in found.values():
        [root] = [span for span in trace if span["name"] == "round"]
        roots[root["attributes"]["propeller_fl.round_id"]] = trace
    return roots


def service_of(span: dict[str, Any]) -> str:
    return str(span["resource"]["attributes"]["service.name"])


def test_one_trace_a_round_across_manager_proplets_and_coordinator(
    nats: RunningBroker, tmp_path: Path
) -> None:
    pytest.importorskip("opentelemetry.sdk")
    rounds = run_rounds(nats, tmp_path)
    assert set(rounds) == {"r-1", "r-2"}
    trace = rounds["r-1"]
    by_id = {span["context"]["span_id"]: span for span in trace}
    assert len(by_id) == len(trace)
    assert Counter((service_of(span), span["name"]) for span in trace) == {
        ("propeller-fl-coordinator", "round"): 1,
        ("propeller-fl-coordinator", "collect"): 1,
        ("propeller-fl-coordinator", "aggregate"): 1,
        ("propeller-fl-manager", "task"): 3,
        ("propeller-fl-proplet", "module"): 3,
    }
    parents = {"round": None, "collect": "round", "aggregate": "round", "task": "round",
               "module": "task"}  # fmt: skip
    for span in trace:
        parent = by_id[span["parent_id"]] if span["parent_id"] else None
        assert (parent["name"] if parent else None) == parents[span["name"]]
        assert span["start_time"] <= span["end_time"]
        if span["name"] == "module":  # by the proplet whose task it is
            who = "propeller_fl.proplet_id"
            assert parent is not None
            assert span["attributes"][who] == parent["attributes"][who]
    [root] = [span for span in trace if span["name"] == "round"]
    assert root["attributes"]["propeller_fl.outcome"] == "complete"
    assert root["attributes"]["propeller_fl.updates"] == 3

    failed = {span["name"]: span for span in rounds["r-2"]}
    assert set(failed) == {"round", "collect"}
    assert failed["round"]["status"]["status_code"] == "ERROR"


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_traces(TracingConfig()) is None
    monkeypatch.delitem(sys.modules, "propeller_fl.observe._traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"propeller-fl\[trace\]"):
        open_traces(TracingConfig(enabled=True))


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    with pytest.raises(ConfigError, match=r"tracing.file"):
        open_traces(TracingConfig(enabled=True, file=tmp_path / "none" / "spans"))


def test_spans_go_to_a_collector_and_one_that_is_gone_keeps_nobody() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            zipped = self.headers.get("content-encoding") == "gzip"
            bodies.append((self.path, gzip.decompress(data) if zipped else data))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        end_a_round(endpoint)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert {path for path, _ in bodies} == {"/v1/traces"}
    sent = [ExportTraceServiceRequest.FromString(body) for _, body in bodies]
    scopes = [scope for one in sent for spans in one.resource_spans for scope in spans.scope_spans]
    assert {span.name for scope in scopes for span in scope.spans} == {"round", "collect"}
    end_a_round(endpoint)  # nobody listens there any more, and it returns all the same


def end_a_round(endpoint: str) -> None:
    traces = open_traces(TracingConfig(enabled=True, endpoint=endpoint))
    assert traces is not None
    traces.of_coordinator()(RoundEnded("r-1", "complete", 1.0, 3))
    traces.close()
