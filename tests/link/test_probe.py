"""What the doctor says about brokers that are well, limited, or not there."""

from __future__ import annotations

from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from propeller_fl.link import BrokerAddress, Incoming, probe_broker

from ..support.brokers import RunningBroker, free_port, mosquitto
from .conftest import Connect


def test_sound_broker(broker: RunningBroker, connect: Connect) -> None:
    findings = probe_broker(broker.address, topic_prefix="m/t/c/c/")
    assert [(f.level, f.subject) for f in findings] == [
        ("ok", "connection"),
        ("ok", "retained"),
        ("ok", "queue"),
    ]
    left: SimpleQueue[Incoming] = SimpleQueue()
    connect(broker.address, "one").subscribe("m/#", left.put).wait(5)
    with pytest.raises(Empty):  # no retained message stays
        left.get(timeout=0.2)


def test_stock_mosquitto_loses_messages(tmp_path: Path) -> None:
    with mosquitto(tmp_path, config="") as broker:
        connection, _, queue = probe_broker(broker.address)
    assert "mosquitto" in connection.detail
    assert queue.level == "warning"
    assert "kept 1" in queue.detail
    assert "max_queued_messages" in queue.hint


def test_no_broker() -> None:
    (finding,) = probe_broker(BrokerAddress("127.0.0.1", free_port()), timeout_s=0.2)
    assert finding.level == "error"
    assert "refused" in finding.detail


def test_wrong_password(tmp_path: Path) -> None:
    with mosquitto(tmp_path, password="open sesame") as broker:
        address = BrokerAddress("127.0.0.1", broker.address.port, "tester", "open barley")
        (finding,) = probe_broker(address)
    assert finding.level == "error"
    assert "Not authorized" in finding.detail
    assert "check user" in finding.hint
