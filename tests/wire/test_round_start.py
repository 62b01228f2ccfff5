"""What names a round: its digest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from propeller_fl.wire import RoundStart

DOCUMENT: dict[str, Any] = {
    "round_id": "r-1",
    "model_uri": "fl/models/global_model_v0",
    "task_wasm_image": "builtin:linear",
    "participants": ["a", "b"],
    "hyperparams": {"lr": 0.5, "epochs": 1},
    "k_of_n": 2,
    "timeout_s": 60,
}
DIGEST_BEFORE_THERE_WERE_ARGUMENTS = (
    "d4da9f80543b42dda95c696719aa7c93b7110b657d6dfcec5ff2a1794301ccd1"
)


def start(**changes: Any) -> RoundStart:
    return RoundStart.decode(json.dumps(DOCUMENT | changes).encode())


def test_a_start_without_strategy_args_keeps_its_digest() -> None:
    for document in (start(), start(strategy_args={}), start(strategy_args=None)):
        assert document.digest() == DIGEST_BEFORE_THERE_WERE_ARGUMENTS


def test_arguments_of_a_strategy_are_part_of_the_round() -> None:
    one = start(strategy="fedadam", strategy_args={"lr": 0.1, "tau": 0.01})
    assert (
        one.digest() == start(strategy="fedadam", strategy_args={"tau": 0.01, "lr": 0.1}).digest()
    )
    assert one.digest() != start(strategy="fedadam", strategy_args={"lr": 0.1}).digest()
    assert RoundStart.decode(one.encode()) == one


def test_a_start_is_the_same_once_it_has_been_sent() -> None:
    sent = replace(start(), timeout_s=30)
    assert RoundStart.decode(sent.encode()).digest() == sent.digest()
