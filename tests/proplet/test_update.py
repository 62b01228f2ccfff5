"""What a module wrote, and the sender's name in it."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from propeller_fl.errors import MessageError
from propeller_fl.proplet import prepare_update
from propeller_fl.wire import UPDATE_LABELS, UpdateSender

NAMED: dict[str, Any] = {
    "round_id": "r-1",
    "base_model_uri": "fl/models/global_model_v0",
    "num_samples": 7,
    "metrics": {},
    "update": {},
}
LABELLED = {label: NAMED[name] for label, name in UPDATE_LABELS.items() if name in NAMED}
KEYS = {name: label for label, name in UPDATE_LABELS.items()}


@pytest.mark.parametrize("document", [NAMED, LABELLED], ids=["names", "labels"])
def test_the_sender_is_put_in_as_the_other_members_are(document: dict[Any, Any]) -> None:
    written = cbor2.dumps(document)
    output = prepare_update(written, "r-1", "proplet-1")
    assert output.num_samples == 7
    assert UpdateSender.decode(output.payload) == UpdateSender("r-1", "proplet-1")
    assert output.payload.endswith(written[1:])
    keys = set(map(type, cbor2.loads(output.payload)))
    assert keys == set(map(type, document))


@pytest.mark.parametrize("key", ["proplet_id", KEYS["proplet_id"]])
def test_a_sender_that_is_there_stays_or_is_refused(key: Any) -> None:
    written = cbor2.dumps(LABELLED | {key: "proplet-1"})
    assert prepare_update(written, "r-1", "proplet-1").payload == written
    with pytest.raises(MessageError) as caught:
        prepare_update(written, "r-1", "proplet-2")
    assert caught.value.reason == "identity"


def test_another_round_is_refused_under_a_label_too() -> None:
    with pytest.raises(MessageError) as caught:
        prepare_update(cbor2.dumps(LABELLED), "r-2", "proplet-1")
    assert (caught.value.reason, caught.value.field) == ("identity", "round_id")
