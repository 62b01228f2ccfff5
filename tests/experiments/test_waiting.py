"""What counts as the end of the round that an experiment waits for."""

from __future__ import annotations

from dataclasses import replace

from propeller_fl.experiments import RoundEnded, RoundFailed, WaitingFor
from propeller_fl.wire import Outcome, Phase, RoundComplete, RoundStart, RoundStatus

START = RoundStart("x-r1", "fl/models/global_model_v0", "builtin:linear", ("p-1",), {}, 1, 30.0)
OPEN = RoundStatus("x-r1", Phase.OPEN, START.digest())
COMPLETE = RoundComplete("x-r1", Outcome.COMPLETE, 1, "fl/models/global_model_v1", 1, 10, "")


def test_another_round_of_the_same_id_does_not_count() -> None:
    waiting = WaitingFor(START)
    foreign = replace(OPEN, phase=Phase.COMPLETE, start_sha256="0" * 64)
    assert waiting.heard_complete(COMPLETE) is None
    assert waiting.heard_status(foreign, 0.0) is None
    refused = replace(OPEN, phase=Phase.REFUSED, reason="round_id_used", detail="d")
    assert waiting.heard_status(refused, 0.0) == RoundFailed("x-r1", "round_id_used", "d")


def test_status_and_completion_may_come_in_any_order() -> None:
    first, second = WaitingFor(START), WaitingFor(START)
    assert first.heard_status(OPEN, 0.0) is None
    assert first.heard_complete(COMPLETE) == RoundEnded(COMPLETE)
    assert second.heard_complete(COMPLETE) is None
    assert second.heard_status(OPEN, 0.0) == RoundEnded(COMPLETE)


def test_a_coordinator_without_room_is_asked_again() -> None:
    waiting = WaitingFor(START)
    assert waiting.ask(0.0)
    full = replace(OPEN, phase=Phase.REFUSED, reason="too_many_rounds")
    assert waiting.heard_status(full, 1.0) is None
    assert not waiting.ask(1.0)
    assert waiting.ask(1.0 + waiting.due_in_s(1.0))
    assert not waiting.is_open


def test_a_completion_that_nobody_has_any_more_is_not_waited_for_for_ever() -> None:
    waiting = WaitingFor(START)
    assert waiting.heard_status(replace(OPEN, phase=Phase.COMPLETE), 100.0) is None
    assert waiting.time_passed(130.0) is None
    lost = waiting.time_passed(160.0)
    assert isinstance(lost, RoundFailed)
    assert lost.reason == "completion_lost"
