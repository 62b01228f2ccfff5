"""The tasks of a proplet as a machine: every event in every state."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propeller_fl.proplet import DONE_KEPT, MAX_LIVE, MAX_WAIT_S, Output, Tasks, events

from .one_task import (
    CLOSED,
    DIGEST,
    ENV,
    EXPIRED,
    FAILED,
    GIVEN,
    IMAGE,
    IMAGE_CAME,
    MODEL_CAME,
    OUTPUT,
    RAN,
    RECONNECTED,
    STOPPED,
    TAKEN,
    URL,
    WAIT_S,
    WAITED,
    WAYS,
    ack,
    error_of,
    names,
    refused,
    start,
    tasks_in,
)

LIVE = [name for name in WAYS if name not in ("unknown", "accepted", "failed")]


def state_name(tasks: Tasks) -> str:
    state = tasks.state_of("t-1")
    return "unknown" if state is None else type(state).__name__.lower()


def summary_of(effects: list[events.Effect]) -> dict[str, object]:
    match effects:
        case [events.Report(result)]:
            assert result.error == ""
            summary: dict[str, object] = json.loads(result.results)
            return summary
    raise AssertionError(f"not one report: {effects}")


# Where each event leads from each state, and what it asks for; (state, []) where nothing happens.
STAY: tuple[str, list[str]] = ("", [])
ENDS = ("done", ["Report"])
CANCELS = ("done", ["CancelRun", "Report"])
SENDS = ("delivering", ["SendUpdate"])
TABLE: dict[str, tuple[events.Event, dict[str, tuple[str, list[str]]]]] = {
    "given": (
        GIVEN,
        {"unknown": ("fetching", []), "sent": SENDS, "accepted": ENDS, "failed": ENDS},
    ),
    "image": (IMAGE_CAME, {"fetching the image": ("running", ["Run"])}),
    "wrong image": (
        events.ImageArrived(URL, b"another image"),
        {"fetching": ENDS, "fetching the image": ENDS},
    ),
    "image of another task": (events.ImageArrived("fl/images/" + 64 * "0", b"x"), {}),
    "model": (MODEL_CAME, {"fetching the model": ("running", ["Run"])}),
    "model of another task": (events.ModelArrived("fl/models/global_model_v1", b"x"), {}),
    "ran": (RAN, {"running": SENDS}),
    "ran, another task": (events.Ran("t-2", OUTPUT), {}),
    "failed": (FAILED, {**dict.fromkeys(LIVE, ENDS), "running": CANCELS}),
    "failed, another task": (events.Failed("t-2", "x"), {}),
    "taken": (TAKEN, {"sending": ("delivering", ["Wait"])}),
    "taken, another task": (events.Taken("t-2", 0.5), {}),
    "waited": (WAITED, {"sent": SENDS}),
    "waited, an older sending": (events.Waited("t-1", 0), {}),
    "waited, another task": (events.Waited("t-2", 1), {}),
    "accepted": (ack(), {"sending": ENDS, "sent": ENDS}),
    "accepted, other bytes": (ack(sha256=64 * "0"), {}),
    "accepted, another round": (ack(round_id="r-2"), {}),
    "accepted, another proplet": (ack(proplet_id="p-2"), {}),
    "refused": (refused("wrong_shape"), {"sending": ENDS, "sent": ENDS}),
    "refused as too late": (refused("round_closed"), {"sending": ENDS, "sent": ENDS}),
    "refused by a coordinator that does not know the round yet": (refused("unknown_round"), {}),
    "round closed": (CLOSED, {**dict.fromkeys(LIVE, ENDS), "running": CANCELS}),
    "another round closed": (events.RoundClosed("r-2", "complete"), {}),
    "stopped": (
        STOPPED,
        {**dict.fromkeys(LIVE, ENDS), "running": CANCELS, "unknown": ("done", [])},
    ),
    "stopped, said to all": (
        events.Stopped("t-1", addressed=False),
        {**dict.fromkeys(LIVE, ENDS), "running": CANCELS},
    ),
    "another task stopped": (events.Stopped("t-2"), {}),
    "reconnected": (RECONNECTED, {"sent": SENDS}),
    "expired": (
        EXPIRED,
        dict.fromkeys(("fetching", "fetching the model", "fetching the image"), ENDS),
    ),
    "another task expired": (events.Expired("t-2"), {}),
}


@pytest.mark.parametrize("before", WAYS)
@pytest.mark.parametrize("event", TABLE)
def test_every_event_in_every_state(before: str, event: str) -> None:
    tasks = tasks_in(before)
    was = state_name(tasks)
    happened, leads = TABLE[event]

    effects = tasks.handle(happened)

    after, asked = leads.get(before, STAY)
    assert (state_name(tasks), names(effects)) == (after or was, asked)


# --- what the effects say


def test_run_has_the_environment_the_image_and_the_model() -> None:
    tasks = tasks_in("fetching the model")

    (run,) = tasks.handle(MODEL_CAME)

    assert isinstance(run, events.Run)
    assert run.start.env == {**ENV, "PROPLET_ID": "p-1"}
    assert (run.image, run.model) == (IMAGE, b"a model")


def test_own_id_takes_the_place_of_one_in_the_task() -> None:
    tasks = Tasks("p-1", WAIT_S)
    tasks.handle(events.Given(start(PROPLET_ID="p-2", MODEL_URI="")))

    (run,) = tasks.handle(IMAGE_CAME)

    assert isinstance(run, events.Run)
    assert run.start.env["PROPLET_ID"] == "p-1"
    assert run.model is None


def test_update_is_sent_as_it_is() -> None:
    (sent,) = tasks_in("running").handle(RAN)

    assert sent == events.SendUpdate("t-1", "r-1", OUTPUT.payload)


def test_success_is_summed_up() -> None:
    summary = summary_of(tasks_in("sent").handle(ack()))

    assert summary == {
        "update_sha256": OUTPUT.sha256,
        "size_bytes": len(OUTPUT.payload),
        "num_samples": 7,
        "answer": "accepted",
    }


@pytest.mark.parametrize("event", [CLOSED, refused("round_closed")])
def test_end_of_the_round_before_the_answer_is_no_failure(event: events.Event) -> None:
    assert summary_of(tasks_in("sent").handle(event))["answer"] == "round_closed"


@pytest.mark.parametrize(
    ("state", "event", "words"),
    [
        ("fetching", FAILED, ["it broke badly"]),
        ("fetching", STOPPED, ["stopped by the manager"]),
        ("running", CLOSED, ["round r-1 closed (complete)"]),
        ("sent", refused("not_finite", "tensor w"), ["refused", "not_finite: tensor w"]),
        ("fetching", events.ImageArrived(URL, b"x"), [DIGEST, hashlib.sha256(b"x").hexdigest()]),
    ],
)
def test_failure_is_one_line_that_says_why(
    state: str, event: events.Event, words: list[str]
) -> None:
    error = error_of(tasks_in(state).handle(event))

    assert "\n" not in error
    assert all(word in error for word in words)


def test_stopped_delivery_is_no_failure() -> None:
    assert summary_of(tasks_in("sent").handle(STOPPED))["answer"] == "stopped"


def test_stop_that_overtakes_its_task_stops_it() -> None:
    tasks = Tasks("p-1", WAIT_S)
    tasks.handle(STOPPED)

    assert error_of(tasks.handle(GIVEN)) == "stopped by the manager"


def test_long_error_is_cut() -> None:
    assert len(error_of(tasks_in("running").handle(events.Failed("t-1", 5000 * "x")))) == 1000


def test_task_outside_any_round_reports_its_output() -> None:
    tasks = Tasks("p-1", WAIT_S)
    for event in (events.Given(start(ROUND_ID="", MODEL_URI="")), IMAGE_CAME):
        tasks.handle(event)

    (report,) = tasks.handle(events.Ran("t-1", Output(b"42")))

    assert isinstance(report, events.Report)
    assert report.result.results == "42"


# --- sending again


def test_waits_double_up_to_a_minute_around_their_jitter() -> None:
    tasks = tasks_in("sending")
    waits = []
    for sends in range(1, 7):
        (wait,) = tasks.handle(events.Taken("t-1", 0.5))
        assert isinstance(wait, events.Wait)
        waits.append(wait.delay_s)
        assert names(tasks.handle(events.Waited("t-1", sends))) == ["SendUpdate"]

    assert waits == [5, 10, 20, 40, 60, 60]
    assert MAX_WAIT_S == 60


@given(st.floats(0, 1))
def test_jitter_is_a_quarter_each_way(jitter: float) -> None:
    (wait,) = tasks_in("sending").handle(events.Taken("t-1", jitter))

    assert isinstance(wait, events.Wait)
    assert 0.75 * WAIT_S <= wait.delay_s <= 1.25 * WAIT_S


def test_unknown_round_is_believed_in_the_end() -> None:
    tasks = tasks_in("sent")
    for sends in range(1, 5):
        assert tasks.handle(refused("unknown_round")) == []
        tasks.handle(events.Waited("t-1", sends))
        tasks.handle(TAKEN)

    assert "unknown_round" in error_of(tasks.handle(refused("unknown_round")))


# --- many tasks


def test_too_many_tasks_push_out_the_one_that_waits_longest() -> None:
    tasks = Tasks("p-1", WAIT_S)
    for number in range(MAX_LIVE):
        tasks.handle(events.Given(start(f"t-{number}")))

    (report,) = tasks.handle(events.Given(start("one more")))

    assert isinstance(report, events.Report)
    assert report.result.task_id == "t-0"
    assert isinstance(tasks.state_of("one more"), events.Fetching)


def test_busy_proplet_refuses_and_may_be_asked_again() -> None:
    tasks = Tasks("p-1", WAIT_S)
    for number in range(MAX_LIVE):
        tasks.handle(events.Given(start(f"t-{number}")))
    tasks.handle(IMAGE_CAME)
    tasks.handle(MODEL_CAME)

    assert "busy" in error_of(tasks.handle(events.Given(start("one more"))))
    tasks.handle(events.Stopped("t-0"))
    assert tasks.handle(events.Given(start("one more"))) == []


def test_only_the_last_results_are_remembered() -> None:
    tasks = Tasks("p-1", WAIT_S)
    for number in range(DONE_KEPT + 1):
        tasks.handle(events.Given(start(f"t-{number}")))
        tasks.handle(events.Stopped(f"t-{number}"))

    assert tasks.state_of("t-0") is None
    assert names(tasks.handle(events.Given(start("t-1")))) == ["Report"]


ANY_EVENT = st.one_of(
    *(
        st.just(event)
        for event in [
            *(event for event, _ in TABLE.values()),
            events.Given(start("t-2")),
            events.Given(start("t-2", ROUND_ID="r-2")),
            events.Ran("t-2", Output(b'{"x":1}')),
        ]
    ),
    st.builds(events.Waited, st.sampled_from(["t-1", "t-2"]), st.integers(0, 5)),
)


@given(st.lists(ANY_EVENT, max_size=40))
def test_whatever_happens(happening: list[events.Event]) -> None:
    """Each task runs once, is reported once for each time it was asked for, and an update is not
    sent while the broker does not have the last one."""
    tasks = Tasks("p-1", WAIT_S)
    runs: dict[str, int] = {}
    with_link: set[str] = set()
    for event in happening:
        if isinstance(event, events.Taken):
            with_link.discard(event.task_id)
        was_done = {
            task_id: isinstance(tasks.state_of(task_id), events.Done) for task_id in ("t-1", "t-2")
        }
        effects = tasks.handle(event)
        for effect in effects:
            match effect:
                case events.Run(begun):
                    runs[begun.id] = runs.get(begun.id, 0) + 1
                    assert runs[begun.id] == 1
                case events.SendUpdate(task_id):
                    assert task_id not in with_link
                    with_link.add(task_id)
                case events.Report(result):
                    assert bool(result.results) != bool(result.error)
                    assert isinstance(tasks.state_of(result.task_id), events.Done)
                    again = isinstance(event, events.Given)
                    assert again or not was_done[result.task_id]
        live = [t for t in ("t-1", "t-2") if isinstance(tasks.state_of(t), events.Fetching)]
        assert bool(live) or all(want.kind == "round" for want in tasks.wants)
