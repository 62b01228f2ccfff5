"""The round's state machine, over every transition."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propeller_fl.rounds import (
    Acknowledge,
    Aggregate,
    AggregationFailed,
    ClockTicked,
    Close,
    Event,
    KeepUpdate,
    ModelMade,
    Opening,
    RecordRefusal,
    Round,
    ShowStatus,
    Stopped,
    TasksFailed,
    UpdateArrived,
    UpdateFacts,
    UpdateUnreadable,
    resume,
    step,
)
from propeller_fl.wire import Mode, Outcome, Phase, RoundStart

SHAPES = {"w": (3,), "b": ()}
MODEL = "fl/models/global_model_v0"


def opened(**changes: Any) -> Round:
    start = RoundStart(
        round_id="r-1",
        model_uri=MODEL,
        task_wasm_image="builtin:linear",
        participants=("a", "b", "c"),
        hyperparams={},
        k_of_n=2,
        timeout_s=30.0,
    )
    return Round(Opening(replace(start, **changes), opened_at_s=1000.0, base_shapes=SHAPES))


def update(proplet_id: str, **changes: Any) -> UpdateFacts:
    facts = UpdateFacts("r-1", proplet_id, MODEL, 10, SHAPES, f"sha of {proplet_id}", 100)
    return facts._replace(**changes)


def after(round_: Round, *events: Event) -> Round:
    for event in events:
        round_ = step(round_, event).round
    return round_


def aggregating() -> Round:
    return after(opened(), UpdateArrived(update("a")), UpdateArrived(update("b")))


def complete() -> Round:
    return after(aggregating(), ModelMade(1))


def failed() -> Round:
    return after(opened(), ClockTicked(1030.0))


# --- OPEN


def test_an_update_is_kept_before_it_is_acknowledged() -> None:
    now, effects = _step(opened(), UpdateArrived(update("a")))
    assert effects == (
        KeepUpdate(update("a")),
        Acknowledge("a", "sha of a"),
        ShowStatus(),
    )
    assert now.phase is Phase.OPEN
    assert now.missing == ("b", "c")


def test_the_kth_update_starts_the_aggregation() -> None:
    now, effects = _step(after(opened(), UpdateArrived(update("c"))), UpdateArrived(update("a")))
    assert now.phase is Phase.AGGREGATING
    assert effects[-2:] == (Aggregate(("a", "c"), Outcome.COMPLETE), ShowStatus())


def test_the_deadline_with_enough_updates_starts_the_aggregation() -> None:
    now, effects = _step(after(opened(), UpdateArrived(update("b"))), ClockTicked(1030.0))
    assert now.phase is Phase.AGGREGATING
    assert effects == (Aggregate(("b",), Outcome.TIMEOUT), ShowStatus())


@pytest.mark.parametrize(("min_updates", "arrived"), [(1, 0), (2, 1)])
def test_the_deadline_with_too_few_updates_fails_the_round(min_updates: int, arrived: int) -> None:
    events = [UpdateArrived(update(name)) for name in "abc"[:arrived]]
    round_ = after(opened(min_updates=min_updates, k_of_n=3), *events)
    now, effects = _step(round_, ClockTicked(1030.0))
    assert now.phase is Phase.FAILED
    detail = f"{arrived} of at least {min_updates} updates at the deadline"
    assert effects == (Close(Outcome.FAILED, None, detail), ShowStatus())


def test_before_the_deadline_the_clock_changes_nothing() -> None:
    round_ = after(opened(), UpdateArrived(update("a")))
    assert step(round_, ClockTicked(1029.999)).round is round_


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("not_participant", update("stranger")),
        ("identity", update("a", round_id="r-2")),
        ("stale_base_model", update("a", base_model_uri="fl/models/global_model_v3")),
        ("bad_num_samples", update("a", num_samples=0)),
        ("missing_tensor", update("a", shapes={"w": (3,)})),
        ("extra_tensor", update("a", shapes={**SHAPES, "c": ()})),
        ("wrong_shape", update("a", shapes={"w": (4,), "b": ()})),
    ],
)
def test_an_update_that_breaks_a_rule_is_recorded_and_answered(
    reason: str, bad: UpdateFacts
) -> None:
    now, effects = _step(opened(), UpdateArrived(bad))
    assert now.accepted == {}
    assert now.refused == {reason: 1}
    recorded, answered, _ = effects
    assert isinstance(recorded, RecordRefusal)
    assert isinstance(answered, Acknowledge)
    assert recorded.reason == answered.reason == reason
    assert recorded.detail


def test_an_evaluation_must_not_carry_tensors() -> None:
    round_ = opened(mode=Mode.EVALUATE)
    assert after(round_, UpdateArrived(update("a"))).refused == {"extra_tensor": 1}
    assert "a" in after(round_, UpdateArrived(update("a", shapes={}))).accepted


def test_unreadable_bytes_are_counted() -> None:
    now, effects = _step(opened(), UpdateUnreadable("a", "sha", "undecodable", "not JSON"))
    assert now.refused == {"undecodable": 1}
    assert Acknowledge("a", "sha", "undecodable", "not JSON") in effects


def test_the_same_bytes_again_are_only_acknowledged() -> None:
    round_ = after(opened(), UpdateArrived(update("a")))
    now, effects = _step(round_, UpdateArrived(update("a")))
    assert now is round_
    assert effects == (Acknowledge("a", "sha of a"),)


def test_rounds_that_grew_from_one_another_see_only_their_own_updates() -> None:
    rounds = [opened(k_of_n=3)]
    for name in ("a", "b"):
        rounds.append(after(rounds[-1], UpdateArrived(update(name))))
    other = after(rounds[1], UpdateArrived(update("c")), UpdateArrived(update("b", sha256="new")))

    assert [list(round_.accepted) for round_ in rounds] == [[], ["a"], ["a", "b"]]
    assert "b" not in rounds[1].accepted
    assert rounds[2].accepted["b"].sha256 == "sha of b"
    assert list(other.accepted) == ["a", "c", "b"]
    assert other.accepted["b"].sha256 == "new"
    assert after(rounds[1], UpdateArrived(update("b"))) == rounds[2]


def test_a_second_update_is_refused_and_the_first_stands() -> None:
    round_ = after(opened(), UpdateArrived(update("a")))
    now, effects = _step(round_, UpdateArrived(update("a", sha256="other")))
    assert now.accepted == round_.accepted
    assert now.refused == {"duplicate": 1}
    assert any(isinstance(e, Acknowledge) and e.reason == "duplicate" for e in effects)


# --- AGGREGATING


def test_a_made_model_completes_the_round() -> None:
    now, effects = _step(aggregating(), ModelMade(5))
    assert now.phase is Phase.COMPLETE
    assert effects == (Close(Outcome.COMPLETE, 5, ""), ShowStatus())


def test_a_failed_aggregation_fails_the_round() -> None:
    now, effects = _step(aggregating(), AggregationFailed("no mean"))
    assert now.phase is Phase.FAILED
    assert effects[0] == Close(Outcome.FAILED, None, "no mean")


def test_an_update_too_late_for_the_aggregate_is_refused() -> None:
    now, effects = _step(aggregating(), UpdateArrived(update("c")))
    assert now.refused == {"round_closed": 1}
    assert any(isinstance(e, Acknowledge) and e.reason == "round_closed" for e in effects)


def test_an_aggregating_round_asks_again_after_a_restart() -> None:
    assert Aggregate(("a", "b"), Outcome.COMPLETE) in resume(aggregating()).effects
    assert resume(opened()).effects == (ShowStatus(),)


# --- stopped


@pytest.mark.parametrize(
    "round_",
    [opened(), after(opened(), UpdateArrived(update("a"))), aggregating()],
    ids=["open", "open-with-an-update", "aggregating"],
)
def test_a_round_that_is_stopped_fails_at_once_without_a_model(round_: Round) -> None:
    now, effects = _step(round_, Stopped("stopped by operator: wrong data"))
    assert now.phase is Phase.FAILED
    assert now.accepted == round_.accepted
    close = Close(Outcome.FAILED, None, "stopped by operator: wrong data")
    assert effects == (close, ShowStatus())
    for event in (Stopped("again"), ModelMade(1), ClockTicked(9e9)):
        assert _step(now, event) == (now, ())
    assert resume(now).effects == (ShowStatus(),)


def test_a_stop_after_the_end_changes_nothing() -> None:
    for ended in (complete(), failed()):
        assert _step(ended, Stopped("too late")) == (ended, ())


# --- tasks that have failed


def failing(*proplet_ids: str) -> TasksFailed:
    return TasksFailed(dict.fromkeys(proplet_ids, "trap"))


def test_a_round_ends_early_when_too_few_can_answer_for_a_model() -> None:
    round_ = after(opened(min_updates=2), UpdateArrived(update("a")), failing("b", "stranger"))
    assert round_.phase is Phase.OPEN, "c may still answer"
    now, effects = _step(round_, failing("b", "c"))
    detail = "2 of 3 tasks have failed, that of b: trap"
    assert (now.phase, now.detail) == (Phase.FAILED, detail)
    assert effects == (Close(Outcome.FAILED, None, detail), ShowStatus())


def test_a_round_ends_early_when_all_others_are_in() -> None:
    round_ = after(opened(k_of_n=3), failing("b", "c"))
    assert round_.phase is Phase.OPEN
    now, effects = _step(round_, UpdateArrived(update("a")))
    assert effects[-2:] == (Aggregate(("a",), Outcome.TIMEOUT), ShowStatus())
    assert KeepUpdate(update("a")) in effects
    detail = "2 of 3 tasks have failed, that of b: trap"
    assert resume(now).effects[0] == Aggregate(("a",), Outcome.TIMEOUT)
    assert step(now, ModelMade(1)).effects[0] == Close(Outcome.TIMEOUT, 1, detail)


def test_who_has_done_it_after_all_may_answer() -> None:
    round_ = after(opened(min_updates=2), failing("b"), failing(), failing("c"))
    now = after(round_, UpdateArrived(update("a")), UpdateArrived(update("b")))
    assert (now.phase, now.outcome) == (Phase.AGGREGATING, Outcome.COMPLETE)


def test_a_task_that_has_failed_takes_no_update_away() -> None:
    round_ = after(opened(k_of_n=3), UpdateArrived(update("a")))
    assert after(round_, failing("a")).phase is Phase.OPEN
    for ended in (complete(), failed(), aggregating()):
        assert _step(ended, failing("a", "b", "c")) == (ended, ())


# --- ended


@pytest.mark.parametrize("ended", [complete(), failed()], ids=["complete", "failed"])
def test_an_ended_round_never_changes_and_still_answers(ended: Round) -> None:
    for event in (
        UpdateArrived(update("c")),
        UpdateUnreadable("c", "sha", "undecodable", ""),
        ClockTicked(9e9),
        ModelMade(9),
        AggregationFailed("late"),
    ):
        now, effects = _step(ended, event)
        assert now is ended
        assert all(isinstance(effect, Acknowledge) and effect.reason for effect in effects)
    for name in ended.accepted:
        assert step(ended, UpdateArrived(update(name))).effects == (
            Acknowledge(name, f"sha of {name}"),
        )


def test_models_made_for_a_round_that_does_not_aggregate_are_ignored() -> None:
    assert step(opened(), ModelMade(1)).round.phase is Phase.OPEN
    assert step(opened(), AggregationFailed("x")).round.phase is Phase.OPEN


# --- whatever happens


def test_the_order_of_arrival_does_not_show_in_the_aggregate() -> None:
    orders = {
        step(
            after(opened(k_of_n=3), *(UpdateArrived(update(name)) for name in order[:2])),
            UpdateArrived(update(order[2])),
        ).effects[-2]
        for order in permutations("abc")
    }
    assert orders == {Aggregate(("a", "b", "c"), Outcome.COMPLETE)}


EVENTS = st.one_of(
    st.builds(
        lambda name, sha, shapes: UpdateArrived(update(name, sha256=sha, shapes=shapes)),
        st.sampled_from(["a", "b", "c", "stranger"]),
        st.sampled_from(["x", "y"]),
        st.sampled_from([SHAPES, {"w": (3,)}]),
    ),
    st.builds(ClockTicked, st.sampled_from([1000.0, 1029.0, 1030.0, 1031.0])),
    st.just(UpdateUnreadable("a", "sha", "undecodable", "")),
    st.builds(ModelMade, st.just(1)),
    st.just(AggregationFailed("no mean")),
    st.just(Stopped("stopped")),
    st.builds(lambda names: failing(*names), st.sets(st.sampled_from("abc"))),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.integers(1, 3), st.integers(1, 3))
def test_whatever_happens_no_promise_is_broken(
    events: list[Event], k_of_n: int, min_updates: int
) -> None:
    round_ = opened(k_of_n=k_of_n, min_updates=min(min_updates, k_of_n))
    kept: dict[str, str] = {}
    aggregated = closed = 0
    for event in events:
        before, (round_, effects) = round_, _step(round_, event)
        for effect in effects:
            match effect:
                case KeepUpdate(facts):
                    assert facts.proplet_id not in kept, "a proplet counts once"
                    kept[facts.proplet_id] = facts.sha256
                case Acknowledge(proplet_id, sha256, ""):
                    assert kept.get(proplet_id) == sha256, "acknowledged, so it is kept"
                case Aggregate(proplet_ids):
                    aggregated += 1
                    assert set(proplet_ids) == set(kept), "what goes in is what was kept"
                    assert len(kept) >= round_.opening.start.min_updates
                case Close(outcome, version):
                    closed += 1
                    assert (version is None) == (outcome is Outcome.FAILED)
                    assert not isinstance(event, Stopped) or outcome is Outcome.FAILED
        assert {name: receipt.sha256 for name, receipt in round_.accepted.items()} == kept
        assert not before.phase.closed or round_ is before
        assert not isinstance(event, Stopped) or round_.phase.closed
    assert aggregated <= 1
    assert closed == round_.phase.closed


def _step(round_: Round, event: Event) -> tuple[Round, tuple[Any, ...]]:
    transition = step(round_, event)
    return transition.round, transition.effects
