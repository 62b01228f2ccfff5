"""From fl/models/publish to disk and to retained topics."""

from __future__ import annotations

import shutil

import pytest

from propeller_fl.errors import DamagedStoreError
from propeller_fl.wire import Format, Model

from ..manager.peers import Peer
from ..support.wait import wait_until
from .conftest import TOPICS, Stage

ZERO = b'{"w":[0.0,0.0,0.0],"b":0.0,"version":0}'
ONE = b'{"w": [1, 2, 3], "b": 0.50, "version": 1}'


def test_version_0_is_made_and_published(any_stage: Stage) -> None:
    any_stage.start_server()
    assert any_stage.peer.expect(TOPICS.model(0)) == [ZERO]
    assert any_stage.models.read(0) == ZERO


def test_no_version_0_beside_other_models(stage: Stage) -> None:
    directory = stage.directory / "models"
    directory.mkdir()
    (directory / "global_model_v4.json").write_bytes(ONE.replace(b"1}", b"4}"))
    stage.start_server()
    assert [model.version for model in stage.models.versions()] == [4]


def test_a_model_is_kept_and_retained_as_it_came(any_stage: Stage) -> None:
    stage = any_stage
    stage.start_server()
    cbor = Model(Model.decode(ONE).tensors, 2).encode(Format.CBOR)
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.say(TOPICS.model_publish, cbor)
    assert stage.peer.expect(TOPICS.model(1))[0] == ONE
    assert stage.peer.expect(TOPICS.model(2))[0] == cbor
    assert (stage.models.read(1), stage.models.read(2)) == (ONE, cbor)

    late = Peer(stage.loop, stage.broker.address, "late", TOPICS.any_model)
    assert late.expect(TOPICS.model(1)) == [ONE]
    assert late.expect(TOPICS.model(2)) == [cbor]


def test_the_same_model_again_is_harmless(stage: Stage) -> None:
    stage.start_server()
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.expect(TOPICS.model(1))
    stage.peer.say(TOPICS.model_publish, ONE)
    assert set(stage.peer.expect(TOPICS.model(1), 2)) == {ONE}
    assert [model.version for model in stage.models.versions()] == [0, 1]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"w": [1]}', "the model has no version"),
        (b'{"w": [1], "version": -1}', "version"),
        (b'{"w": [NaN], "version": 1}', "w"),
        (b'{"version": 1}', "model"),
        (b"garbage", "cannot be read"),
        (b"", "cannot be read"),
        (b'{"w": [9], "b": 9, "version": 0}', "version 0 exists with other bytes"),
    ],
)
def test_a_bad_model_is_refused_and_the_next_one_kept(
    stage: Stage, bad: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_server()
    stage.peer.say(TOPICS.model_publish, bad)
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.expect(TOPICS.model(1))
    [refusal] = [text for text in caplog.messages if text.startswith("model refused")]
    assert why in refusal
    assert stage.models.read(0) == ZERO


def test_a_broker_that_lost_everything_gets_all_models_again(stage: Stage) -> None:
    stage.start_server()
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.expect(TOPICS.model(1))
    stage.broker.kill()
    shutil.rmtree(stage.directory / "broker" / "store")
    stage.broker.start()
    late = Peer(stage.loop, stage.broker.address, "late", TOPICS.any_model)
    assert late.expect(TOPICS.model(0)) == [ZERO]
    assert late.expect(TOPICS.model(1)) == [ONE]


def test_what_the_broker_lost_while_we_were_away(any_stage: Stage) -> None:
    stage = any_stage
    stage.start_server()
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.expect(TOPICS.model(1))
    stage.stop_server()
    stage.peer.say(TOPICS.model(0), b"", retain=True)  # forgets it
    stage.peer.say(TOPICS.model(1), b'{"w": "forged"}', retain=True)
    before = len(stage.peer.received)
    stage.start_server()

    def published() -> set[bytes]:
        return {incoming.payload for incoming in stage.peer.received[before:]}

    wait_until(lambda: published() >= {ZERO, ONE}, 10, "both are published again")


def test_nothing_is_published_again_without_need(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stage.start_server()
    wait_until(lambda: "published 1 models" in caplog.text, 10, "version 0 is out")
    stage.peer.expect(TOPICS.model(0))
    stage.stop_server()
    stage.start_server()
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.expect(TOPICS.model(1))
    assert len(stage.peer.heard(TOPICS.model(0))) == 1


def test_models_sent_while_we_were_away(any_stage: Stage) -> None:
    stage = any_stage
    stage.start_server()
    stage.stop_server()
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.start_server()
    assert stage.peer.expect(TOPICS.model(1))[0] == ONE


def test_a_directory_that_fails_loses_no_model(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_server()
    models, away = stage.directory / "models", stage.directory / "away"
    models.rename(away)
    stage.peer.say(TOPICS.model_publish, ONE)
    wait_until(lambda: "model 1 not stored, trying again" in caplog.text, 10, "it is logged")
    away.rename(models)
    assert stage.peer.expect(TOPICS.model(1))[0] == ONE
    assert stage.models.read(1) == ONE


@pytest.mark.parametrize("damaged", [ONE[:-5], b"", ONE.replace(b'"version": 1', b'"version": 7')])
def test_a_latest_model_that_is_none_is_refused_at_the_start(stage: Stage, damaged: bytes) -> None:
    directory = stage.directory / "models"
    directory.mkdir()
    (directory / "global_model_v1.json").write_bytes(damaged)
    with pytest.raises(DamagedStoreError, match=r"model 1 in .*/models is damaged"):
        stage.start_server()
    assert (directory / "global_model_v1.json").read_bytes() == damaged


def test_a_damaged_model_does_not_take_the_place_of_the_brokers(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_server()
    stage.peer.say(TOPICS.model_publish, ONE)
    stage.peer.expect(TOPICS.model(0))
    stage.peer.expect(TOPICS.model(1))
    stage.stop_server()
    (stage.directory / "models" / "global_model_v0.json").write_bytes(ZERO[:-9])
    stage.start_server()
    wait_until(lambda: "not published: model 0" in caplog.text, 10, "it is found and named")
    late = Peer(stage.loop, stage.broker.address, "late", TOPICS.any_model)
    assert late.expect(TOPICS.model(0)) == [ZERO]
    assert late.expect(TOPICS.model(1)) == [ONE]
