"""Updates pass through, byte for byte, or are refused with a reason."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from propeller_fl.link import LinkLimits
from propeller_fl.wire import AckStatus, Discovery, UpdateAck

from ..support.brokers import mosquitto
from ..support.wait import wait_until
from .conftest import TOPICS, Stage, round_start
from .peers import Peer

UPDATE = TOPICS.update("r-1", "p-1")


def update(**fields: object) -> bytes:
    return json.dumps({"round_id": "r-1", "proplet_id": "p-1", "update": {}, **fields}).encode()


def test_verbatim(any_stage: Stage) -> None:
    stage = any_stage
    stage.start_manager()
    spaced = b' {"proplet_id" : "p-1",\n "round_id":"r-1", "later": [1.50]} '
    cbor = b"\xa2\x68round_id\x63r-1\x6aproplet_id\x63p-1"
    stage.peer.say(UPDATE, spaced)
    stage.peer.say(UPDATE, cbor)
    assert sorted(stage.peer.expect(TOPICS.forwarded_updates, 2)) == sorted([spaced, cbor])
    wait_until(lambda: stage.manager.forwarded().forwarded == 2, 5, "both are counted")
    assert stage.manager.forwarded().refused == {}


def forwarded_with_mqtt5(stage: Stage) -> list[dict[str, str]]:
    """What comes beside an update that manager and coordinator would speak MQTT 5 about."""
    stage.start_manager(mqtt5=True)
    address, topic = stage.broker.address, TOPICS.forwarded_updates
    knows = Peer(stage.loop, address, "coordinator", topic, mqtt5=True)
    stage.peer.say(UPDATE, update())
    for peer in (knows, stage.peer):  # who speaks 3.1.1 gets the same
        assert peer.expect(topic) == [update()]
    assert stage.peer.beside(topic) == [{}]
    stage.peer.say(UPDATE, update(proplet_id="p-2"))
    assert UpdateAck.decode(stage.peer.expect(TOPICS.ack("r-1", "p-1"))[0]).reason == "identity"
    return knows.beside(topic)


def test_who_sent_it_goes_beside_the_payload(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        stage = Stage(broker, tmp_path)
        try:
            assert forwarded_with_mqtt5(stage) == [{"proplet_id": "p-1"}]
        finally:
            stage.close()


def test_where_there_is_no_room_for_it_nothing_changes(stage: Stage) -> None:
    assert forwarded_with_mqtt5(stage) == [{}]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (update(round_id="r-2"), "identity"),
        (update(proplet_id="p-2"), "identity"),
        (update(proplet_id=None), "missing_field"),
        (update(proplet_id=""), "missing_field"),
        (update(round_id=None), "missing_field"),
        (update(proplet_id="../p"), "bad_id"),
        (update(proplet_id=7), "bad_field"),
        (b"[]", "undecodable"),
        (b"", "undecodable"),
        (b'{"round_id": "r-1"', "undecodable"),
        (b"\xa1\xff\xff", "undecodable"),
        (b'{"a":' * 20_000, "undecodable"),
    ],
)
def test_refused(
    stage: Stage, payload: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_manager()
    stage.peer.say(UPDATE, payload)
    [answer] = stage.peer.expect(TOPICS.ack("r-1", "p-1"))
    ack = UpdateAck.decode(answer)
    assert (ack.round_id, ack.proplet_id, ack.status) == ("r-1", "p-1", AckStatus.REFUSED)
    assert ack.reason == reason
    assert ack.sha256 == hashlib.sha256(payload).hexdigest()
    assert ack.detail
    assert stage.manager.forwarded().refused == {reason: 1}
    [record] = [r for r in caplog.records if r.getMessage().startswith("update refused")]
    assert (record.__dict__["round_id"], record.__dict__["proplet_id"]) == ("r-1", "p-1")

    stage.peer.say(UPDATE, update())  # and life goes on
    assert stage.peer.expect(TOPICS.forwarded_updates) == [update()]


def test_a_topic_with_a_bad_id(stage: Stage) -> None:
    stage.start_manager()
    stage.peer.say(TOPICS.absolute("fl/rounds/r~1/updates/p-1"), update())
    wait_until(lambda: stage.manager.forwarded().refused == {"bad_id": 1}, 5, "it is counted")
    assert not stage.peer.heard(TOPICS.forwarded_updates)


def test_what_came_while_we_were_away(stage: Stage) -> None:
    stage.start_manager()
    stage.stop_manager()
    payloads = [update(num_samples=number) for number in range(50)]
    for payload in payloads:
        stage.peer.say(UPDATE, payload)
    stage.start_manager()
    wait_until(lambda: received(stage) == set(payloads), 20, "all updates are forwarded")


def test_a_full_queue_holds_and_loses_nothing(stage: Stage) -> None:
    stage.start_manager(LinkLimits(max_queued=4))
    payloads = [update(num_samples=number) for number in range(300)]
    for payload in payloads:
        stage.peer.link.publish(UPDATE, payload)
    wait_until(lambda: received(stage) == set(payloads), 30, "all updates are forwarded")


def test_a_broker_that_dies_with_updates_under_way(stage: Stage) -> None:
    stage.start_manager()
    payloads = [update(num_samples=number) for number in range(200)]
    for payload in payloads:
        stage.peer.link.publish(UPDATE, payload)
    wait_until(lambda: received(stage), 10, "some are forwarded")
    stage.broker.kill()
    stage.broker.start()
    wait_until(lambda: received(stage) == set(payloads), 30, "all updates are forwarded")


def received(stage: Stage) -> set[bytes]:
    return set(stage.peer.heard(TOPICS.forwarded_updates))


def test_beside_a_manager_of_propellers_it_forwards_and_launches_nothing(stage: Stage) -> None:
    stage.start_manager(launch=False)
    stage.peer.say(TOPICS.proplet_create, Discovery("p-1").encode())
    stage.open_round(round_start(participants=("p-1",)))

    stage.peer.say(UPDATE, update())

    assert stage.peer.expect(TOPICS.forwarded_updates) == [update()]
    assert stage.fleet() == ()
    assert stage.tasks_so_far() == []
    assert stage.peer.heard(TOPICS.launch("r-1")) == []
