"""An update that says it is from another proplet than the manager says beside it."""

from __future__ import annotations

import hashlib
import json

import cbor2
import pytest

from propeller_fl.coordinator import Outgoing, Tell
from propeller_fl.link import Incoming
from propeller_fl.wire import SENDER_PROPERTY, AckStatus, Topics, UpdateAck

from .engine_desk import V0, Desk, start, update


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.models["fl/models/global_model_v0"] = V0
    desk.start(start(k_of_n=3))
    return desk


def forwarded(desk: Desk, payload: bytes, sender: str) -> list[UpdateAck]:
    incoming = Incoming(
        Topics().forwarded_updates,
        payload,
        retained=False,
        duplicate=False,
        ack=lambda _: None,
        properties={SENDER_PROPERTY: sender} if sender else None,
    )
    said: list[Outgoing] = desk.engine.handle([incoming], desk.now_s)
    answers = [one for one in said if isinstance(one, Tell) and "/acks/" in one.topic]
    acks = [UpdateAck.decode(answer.payload) for answer in answers]
    assert [one.topic for one in answers] == [
        Topics().ack(ack.round_id, ack.proplet_id) for ack in acks
    ]
    return acks


@pytest.mark.parametrize("encode", [lambda u: json.dumps(u).encode(), cbor2.dumps])
@pytest.mark.parametrize("sender", ["a", ""])
def test_who_says_who_he_is_is_heard(desk: Desk, encode: object, sender: str) -> None:
    assert callable(encode)
    [ack] = forwarded(desk, encode(update("a")), sender)
    assert (ack.proplet_id, ack.status) == ("a", AckStatus.ACCEPTED)


def test_who_speaks_for_another_is_refused_himself(desk: Desk) -> None:
    forged = json.dumps(update("a")).encode()
    [ack] = forwarded(desk, forged, "b")
    assert (ack.proplet_id, ack.status, ack.reason) == ("b", AckStatus.REFUSED, "identity")
    assert ack.sha256 == hashlib.sha256(forged).hexdigest()
    assert "'a'" in ack.detail

    for name in "ab":  # and it costs neither of them anything
        [ack] = forwarded(desk, json.dumps(update(name)).encode(), name)
        assert (ack.proplet_id, ack.status) == (name, AckStatus.ACCEPTED)


def test_an_update_of_nobody_is_not_made_the_senders(desk: Desk) -> None:
    nobody = update("a")
    del nobody["proplet_id"]
    assert not [
        ack
        for ack in forwarded(desk, json.dumps(nobody).encode(), "a")
        if ack.status is AckStatus.ACCEPTED
    ]
