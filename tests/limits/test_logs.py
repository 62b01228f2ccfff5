"""A whole round with logs in JSON, from every process."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at
from tests.support.rounds import PROPLETS, start_message, update_message
from tests.support.services import Service, running

from .conftest import Deployment, run_round

ROUNDS = ("r-good", "r-refused", "r-unknown")
PROCESS_FIELDS = ("time", "level", "logger", "message")


def test_each_line_is_an_event_with_its_ids(nats: RunningBroker, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, nats, log_json=True)
    with running(*deployment.services), peer_at(nats.address) as peer:
        peer.subscribe("fl/models/+", "fl/rounds/+/status", "fl/rounds/+/acks/+")
        peer.wait_for("fl/models/global_model_v0", timeout_s=30)
        refused = start_message("r-refused", model_uri="fl/models/global_model_v9")
        peer.publish("fl/rounds/start", refused)
        peer.wait_for("fl/rounds/r-refused/status", timeout_s=30)
        for round_id, proplet_id in (("r-unknown", "proplet-1"), ("r-good", "stranger")):
            peer.publish("fml/updates", update_message(proplet_id, round_id=round_id))
        peer.wait_for("fl/rounds/r-unknown/acks/proplet-1")
        run_round(peer, "r-good")
        stray = update_message("impostor", round_id="r-good")
        peer.publish("fl/rounds/r-good/updates/proplet-1", stray)
        peer.wait_for("fl/rounds/r-good/acks/proplet-1", lambda ack: ack["reason"] == "identity")
    second = Service(tmp_path / "state", nats.address, "coordinator", log_json=True)
    (tmp_path / "state").write_text("in the way")
    second.start()
    assert second.wait_end() == 1

    for service in (*deployment.services, second):
        lines = service.log.splitlines()
        assert lines, service.name
        for line in lines:
            assert_complete(json.loads(line), line)
    events = [json.loads(line) for line in deployment.coordinator.log.splitlines()]
    told = {event["message"] for event in events if event.get("round_id") == "r-good"}
    assert any(message.startswith("round opened") for message in told)
    assert any(message.startswith("round complete") for message in told)
    accepted = {e.get("proplet_id") for e in events if e["message"].startswith("update accepted")}
    assert accepted == set(PROPLETS)
    assert json.loads(second.log)["level"] == "error"


def assert_complete(event: dict[str, str], line: str) -> None:
    """It has what every event has, and each id that its text mentions in a field."""
    assert all(event[name] for name in PROCESS_FIELDS), line
    for round_id in mentioned(ROUNDS, event["message"]):
        assert event.get("round_id") == round_id, line
    for proplet_id in mentioned((*PROPLETS, "stranger"), event["message"]):
        known = {event.get("proplet_id"), *event.get("proplet_ids", "").split(",")}
        assert proplet_id in known, line


def mentioned(ids: tuple[str, ...], text: str) -> list[str]:
    return [i for i in ids if re.search(rf"(?<![\w.-]){re.escape(i)}(?![\w.-])", text)]


@pytest.mark.parametrize("text", ["r-1", "(r-1)", "fl/rounds/r-1/status", "'r-1'"])
def test_ids_are_found_in_text(text: str) -> None:
    assert mentioned(("r-1", "r"), text) == ["r-1"]
