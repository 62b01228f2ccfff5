"""Updates that are files: offered, then here, or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from propeller_fl.rounds import (
    Acknowledge,
    Aggregate,
    ClockTicked,
    Close,
    DropFile,
    FetchFile,
    FileArrived,
    FileRefused,
    KeepUpdate,
    Opening,
    RecordRefusal,
    Round,
    UpdateArrived,
    UpdateFacts,
    UpdateOffered,
    resume,
    step,
)
from propeller_fl.wire import Mode, Outcome, Phase, Reason, RoundStart

URI = "fl/models/global_model_v0"
START = RoundStart("r-1", URI, "builtin:linear", ("a", "b", "c"), {}, 2, 60.0)
OPEN = Round(Opening(START, 100.0, {"w": (3,)}, "f" * 64, in_parts=True))


def offer(proplet_id: str = "a", **changes: Any) -> UpdateFacts:
    facts = UpdateFacts("r-1", proplet_id, URI, 10, {"w": (3,)}, proplet_id * 64, 99, True)
    return facts._replace(**changes)


def after(*events: Any, round_: Round = OPEN) -> Round:
    for event in events:
        round_ = step(round_, event).round
    return round_


def test_an_offer_counts_and_is_answered_when_its_file_is_here() -> None:
    offered = step(OPEN, UpdateOffered(offer()))
    assert offered.effects == (FetchFile(offer()),)
    assert not offered.round.accepted
    arrived = step(offered.round, FileArrived("a", "a" * 64))
    assert arrived.effects[:2] == (KeepUpdate(offer()), Acknowledge("a", "a" * 64))
    assert list(arrived.round.accepted) == ["a"]
    assert not arrived.round.offered
    again = step(arrived.round, UpdateOffered(offer()))
    assert again.effects == (Acknowledge("a", "a" * 64),)


def test_an_offer_sent_again_changes_nothing() -> None:
    offered = after(UpdateOffered(offer()))
    again = step(offered, UpdateOffered(offer()))
    assert (again.round, again.effects) == (offered, ())


def test_another_offer_takes_the_place_of_one_that_nothing_was_promised_about() -> None:
    offered = after(UpdateOffered(offer()))
    another = step(offered, UpdateOffered(offer(sha256="d" * 64)))
    assert another.effects == (FetchFile(offer(sha256="d" * 64)),)
    stale = step(another.round, FileArrived("a", "a" * 64))
    assert (stale.round, stale.effects) == (another.round, ())


def test_another_one_than_the_accepted_is_a_duplicate() -> None:
    accepted = after(UpdateOffered(offer()), FileArrived("a", "a" * 64))
    another = step(accepted, UpdateOffered(offer(sha256="d" * 64)))
    assert Acknowledge("a", "d" * 64, Reason.DUPLICATE) in [
        e._replace(detail="") for e in another.effects if isinstance(e, Acknowledge)
    ]


def test_a_file_that_is_not_what_it_should_be_is_refused_and_may_come_again() -> None:
    offered = after(UpdateOffered(offer()))
    refused = step(offered, FileRefused("a", "a" * 64, Reason.NOT_FINITE, "w holds NaN"))
    assert refused.effects[:3] == (
        DropFile("a"),
        RecordRefusal("a", Reason.NOT_FINITE, "w holds NaN"),
        Acknowledge("a", "a" * 64, Reason.NOT_FINITE, "w holds NaN"),
    )
    assert refused.round.refused == {Reason.NOT_FINITE: 1}
    assert after(UpdateOffered(offer()), round_=refused.round).offered


def test_at_the_deadline_what_is_not_whole_is_refused_for_that_reason() -> None:
    waiting = after(
        UpdateOffered(offer("a")), FileArrived("a", "a" * 64), UpdateOffered(offer("b"))
    )
    ended = step(waiting, ClockTicked(161.0))
    reasons = [e.reason for e in ended.effects if isinstance(e, RecordRefusal)]
    assert reasons == [Reason.INCOMPLETE]
    assert DropFile("b") in ended.effects
    assert Aggregate(("a",), Outcome.TIMEOUT) in ended.effects
    assert ended.round.missing == ("b", "c")
    assert not ended.round.offered


def test_without_a_whole_one_at_the_deadline_the_round_fails() -> None:
    ended = step(after(UpdateOffered(offer())), ClockTicked(161.0))
    assert ended.round.phase is Phase.FAILED
    assert [e.reason for e in ended.effects if isinstance(e, RecordRefusal)] == ["incomplete"]
    assert isinstance(ended.effects[-2], Close)


def test_with_enough_whole_ones_the_others_are_told_that_the_round_is_closed() -> None:
    events = [UpdateOffered(offer(p)) for p in "abc"] + [FileArrived(p, p * 64) for p in "ac"]
    waiting = after(*events[:-1])
    ended = step(waiting, events[-1])
    assert ended.round.phase is Phase.AGGREGATING
    answers = {e.proplet_id: e.reason for e in ended.effects if isinstance(e, Acknowledge)}
    assert answers == {"c": "", "b": Reason.ROUND_CLOSED}
    late = step(ended.round, FileArrived("b", "b" * 64))
    assert (late.round, late.effects) == (ended.round, ())


def test_after_a_restart_what_was_offered_is_fetched_again() -> None:
    waiting = after(UpdateOffered(offer("a")), UpdateOffered(offer("b")))
    assert resume(waiting).effects[:2] == (FetchFile(offer("a")), FetchFile(offer("b")))


def test_updates_come_as_the_model_does() -> None:
    plain = Round(replace(OPEN.opening, in_parts=False))
    for round_, event in (
        (OPEN, UpdateArrived(offer(in_parts=False))),
        (plain, UpdateOffered(offer())),
    ):
        [refusal] = [e for e in step(round_, event).effects if isinstance(e, RecordRefusal)]
        assert refusal.reason == Reason.BAD_FIELD


def test_a_file_is_hardly_larger_than_its_numbers() -> None:
    """Room is made for it before a byte of it is known."""
    [refusal] = [
        e
        for e in step(OPEN, UpdateOffered(offer(size_bytes=1 << 40))).effects
        if isinstance(e, RecordRefusal)
    ]
    assert refusal.reason == Reason.TOO_LARGE


def test_an_evaluation_of_a_model_in_parts_is_one_document() -> None:
    start = replace(START, mode=Mode.EVALUATE)
    evaluated = Round(replace(OPEN.opening, start=start))
    told = step(evaluated, UpdateArrived(offer(shapes={}, in_parts=False)))
    assert list(told.round.accepted) == ["a"]
