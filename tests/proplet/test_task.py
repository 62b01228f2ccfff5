"""The tasks of a proplet as a machine: every event in every state."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propeller_fl.proplet import DONE_KEPT, MAX_LIVE, MAX_WAIT_S, Content, Output, Tasks, events
from propeller_fl.wire import AckStatus, FlSpec, TaskStart, UpdateAck

IMAGE = b"an image"
DIGEST = hashlib.sha256(IMAGE).hexdigest()
URL = f"fl/images/{DIGEST}"
MODEL_URI = "fl/models/global_model_v0"
ENV = {"ROUND_ID": "r-1", "MODEL_URI": MODEL_URI}
OUTPUT = Output(b'{"an":"update"}', 7)
WAIT_S = 5.0


def start(task_id: str = "t-1", url: str = URL, **changes: str) -> TaskStart:
    """A task of round r-1; ``changes`` are made to its environment, and to ``image_sha256``."""
    digest = changes.pop("image_sha256", "")
    env = {name: value for name, value in {**ENV, **changes}.items() if value}
    return TaskStart(task_id, "", "p-1", url, env, digest)


def ack(
    status: AckStatus = AckStatus.ACCEPTED,
    *,
    round_id: str = "r-1",
    proplet_id: str = "p-1",
    sha256: str = OUTPUT.sha256,
    reason: str = "",
    detail: str = "",
) -> events.Answered:
    return events.Answered(UpdateAck(round_id, proplet_id, status, sha256, reason, detail))


def refused(reason: str, detail: str = "") -> events.Answered:
    return ack(AckStatus.REFUSED, reason=reason, detail=detail)


MODEL = b"a model"
MODEL_SHA256 = hashlib.sha256(MODEL).hexdigest()
OTHER_SHA256 = hashlib.sha256(b"another").hexdigest()
DEADLINE_S = 1_800_000_000.0


def spec(**changes: Any) -> FlSpec:
    return replace(FlSpec("r-1", MODEL_URI, MODEL_SHA256, deadline=DEADLINE_S), **changes)


def given_about(fl: FlSpec, now_s: float | None = None, **env: str) -> events.Given:
    return events.Given(replace(start(**env), fl=fl), now_s)


GIVEN = events.Given(start())
IMAGE_CAME = events.ImageArrived(URL, IMAGE)
MODEL_CAME = events.ModelArrived(MODEL_URI, MODEL)
OTHER_MODEL_CAME = events.ModelArrived(MODEL_URI, b"another")
EXPIRED = events.Expired("t-1")
RAN = events.Ran("t-1", OUTPUT)
TAKEN = events.Taken("t-1", 0.5)
WAITED = events.Waited("t-1", 1)
STOPPED = events.Stopped("t-1")
FAILED = events.Failed("t-1", "it  broke\nbadly")
CLOSED = events.RoundClosed("r-1", "complete")
RECONNECTED = events.Reconnected()

WAYS: dict[str, list[events.Event]] = {
    "unknown": [],
    "fetching": [GIVEN],
    "fetching the model": [GIVEN, IMAGE_CAME],
    "fetching the image": [GIVEN, MODEL_CAME],
    "running": [GIVEN, IMAGE_CAME, MODEL_CAME],
    "sending": [GIVEN, IMAGE_CAME, MODEL_CAME, RAN],
    "sent": [GIVEN, IMAGE_CAME, MODEL_CAME, RAN, TAKEN],
    "accepted": [GIVEN, IMAGE_CAME, MODEL_CAME, RAN, TAKEN, ack()],
    "failed": [GIVEN, FAILED],
}
LIVE = [name for name in WAYS if name not in ("unknown", "accepted", "failed")]


def tasks_in(state: str) -> Tasks:
    tasks = Tasks("p-1", WAIT_S)
    for event in WAYS[state]:
        tasks.handle(event)
    return tasks


def state_name(tasks: Tasks) -> str:
    state = tasks.state_of("t-1")
    return "unknown" if state is None else type(state).__name__.lower()


def names(effects: list[events.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def error_of(effects: list[events.Effect]) -> str:
    reports = [effect.result for effect in effects if isinstance(effect, events.Report)]
    assert len(reports) == 1
    assert reports[0].results == ""
    return reports[0].error


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


# --- what may be asked for


@pytest.mark.parametrize("url", ["/images/a b.wasm", "file:///images/a%20b.wasm"])
def test_image_in_a_local_file_is_read(url: str) -> None:
    tasks = Tasks("p-1", WAIT_S)

    effects = tasks.handle(events.Given(start(url=url)))

    assert effects == [events.ReadImage("t-1", url, "/images/a b.wasm")]
    assert {want.kind for want in tasks.wants} == {"model", "round"}


def test_image_of_a_local_file_is_checked_against_the_digest() -> None:
    tasks = Tasks("p-1", WAIT_S)
    tasks.handle(events.Given(start(url="/a.wasm", image_sha256=DIGEST)))

    assert "digest" in error_of(tasks.handle(events.ImageArrived("/a.wasm", b"x")))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (start(ROUND_ID="a/b"), "ROUND_ID"),
        (start(MODEL_URI="fl/models/#"), "MODEL_URI"),
        (start(MODEL_URI="fl/models/publish"), "fl/models/global_model_v0"),
        (start(MODEL_URI="http://a.b/model"), "MODEL_URI"),
        (start(url="https://example/a.wasm"), "fl/images/"),  # a registry may have oci://
        (start(url="a.wasm"), "cannot fetch"),
        (start(url="file://elsewhere/a.wasm"), "cannot fetch"),
        (start(url="http://[/a"), "cannot fetch"),
        (start(image_sha256="ABC"), "hexadecimal"),
        (start(image_sha256=64 * "0"), "leave image_sha256 out"),
    ],
)
def test_task_that_can_never_run_fails_at_once(bad: TaskStart, words: str) -> None:
    tasks = Tasks("p-1", WAIT_S)

    effects = tasks.handle(events.Given(bad))

    assert words in error_of(effects)
    assert tasks.wants == frozenset()
    assert tasks.handle(events.Given(bad)) == effects


def test_only_what_is_needed_is_wanted() -> None:
    image, model, end = (
        events.Want("image", URL),
        events.Want("model", MODEL_URI),
        events.Want("round", "r-1"),
    )
    wanted = {name: tasks_in(name).wants for name in WAYS}

    assert wanted == {
        "unknown": frozenset(),
        "fetching": {image, model, end},
        "fetching the model": {model, end},
        "fetching the image": {image, end},
        "running": {end},
        "sending": {end},
        "sent": {end},
        "accepted": frozenset(),
        "failed": frozenset(),
    }


# --- what the task is about


def test_another_model_is_not_trained_on_and_the_right_one_is() -> None:
    tasks = Tasks("p-1", WAIT_S)
    tasks.handle(given_about(spec()))
    tasks.handle(IMAGE_CAME)

    assert tasks.handle(OTHER_MODEL_CAME) == []
    assert events.Want("model", MODEL_URI) in tasks.wants
    (run,) = tasks.handle(MODEL_CAME)

    assert isinstance(run, events.Run)
    assert run.model == MODEL


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (CLOSED, "closed (complete)"),
        (EXPIRED, "deadline has passed"),
        (STOPPED, "stopped by the manager"),
    ],
)
@pytest.mark.parametrize("before", [[], [IMAGE_CAME]])
def test_a_wait_for_the_right_model_that_is_over_names_both(
    before: list[events.Event], end: events.Event, words: str
) -> None:
    tasks = Tasks("p-1", WAIT_S)
    for event in (given_about(spec()), *before, OTHER_MODEL_CAME):
        tasks.handle(event)

    error = error_of(tasks.handle(end))

    assert error.startswith("model: mismatch: ")
    assert error.index(OTHER_SHA256) < error.index(MODEL_SHA256) < error.index(words)


def test_the_wrong_model_is_forgotten_when_the_right_one_is_there() -> None:
    tasks = Tasks("p-1", WAIT_S)
    for event in (given_about(spec()), OTHER_MODEL_CAME, MODEL_CAME, OTHER_MODEL_CAME):
        tasks.handle(event)

    assert error_of(tasks.handle(CLOSED)) == (
        "round r-1 closed (complete) before the image was there"
    )


def test_another_model_that_cannot_be_had_is_waited_out() -> None:
    tasks = Tasks("p-1", WAIT_S)
    tasks.handle(given_about(spec()))
    tasks.handle(IMAGE_CAME)

    assert tasks.handle(events.ModelFailed(MODEL_URI, b"another manifest", "gone")) == []
    assert names(tasks.handle(MODEL_CAME)) == ["Run"]


def test_a_model_whose_digest_nobody_knows_is_taken() -> None:
    tasks = Tasks("p-1", WAIT_S)
    for event in (given_about(spec(model_sha256="")), IMAGE_CAME):
        tasks.handle(event)

    assert names(tasks.handle(OTHER_MODEL_CAME)) == ["Run"]


@pytest.mark.parametrize(
    ("given_event", "words"),
    [
        (given_about(spec(round_id="r-2")), "fl.round_id is 'r-2', and env.ROUND_ID is 'r-1'"),
        (given_about(spec(), ROUND_ID=""), "fl.round_id is 'r-1', and env.ROUND_ID is ''"),
        (given_about(spec(model_uri="fl/models/x")), "fl.model_uri is 'fl/models/x'"),
        (given_about(spec(), DEADLINE_S + 86_401), "the deadline of round r-1 passed 86401 s ago"),
    ],
)
def test_a_task_about_nothing_that_can_be_is_refused(given_event: events.Given, words: str) -> None:
    tasks = Tasks("p-1", WAIT_S)

    assert words in error_of(tasks.handle(given_event))
    assert tasks.wants == frozenset()


@pytest.mark.parametrize(
    ("now_s", "left_s"),
    [(DEADLINE_S - 60, 86_460), (DEADLINE_S, 86_400), (DEADLINE_S + 86_400, 0)],
)
def test_the_wait_is_bounded_by_the_deadline_and_a_day(now_s: float, left_s: float) -> None:
    tasks = Tasks("p-1", WAIT_S)

    assert tasks.handle(given_about(spec(), now_s)) == [events.Expire("t-1", left_s)]


def test_without_a_clock_or_a_deadline_nothing_bounds_the_wait() -> None:
    assert Tasks("p-1", WAIT_S).handle(given_about(spec(), None)) == []
    for never_set_s in (0.0, 946_684_800.0):  # not given, or by a clock that begins in 2000
        unknown = replace(spec(), deadline=never_set_s)
        assert Tasks("p-1", WAIT_S).handle(given_about(unknown, DEADLINE_S)) == []


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


def test_a_large_model_is_run_from_its_file() -> None:
    tasks = tasks_in("unknown")
    content = Content(Path("/models/one"))
    tasks.handle(GIVEN)
    tasks.handle(events.ModelArrived(MODEL_URI, b"its manifest", content))
    [run] = tasks.handle(IMAGE_CAME)
    assert isinstance(run, events.Run)
    assert run.model is content


def test_a_model_that_cannot_be_had_ends_the_tasks_that_wait_for_it() -> None:
    tasks = tasks_in("fetching the model")
    other = events.Given(start("t-2", MODEL_URI="fl/models/global_model_v1"))
    tasks.handle(other)
    [report] = tasks.handle(events.ModelFailed(MODEL_URI, b"a manifest", "too large"))
    assert isinstance(report, events.Report)
    assert (report.result.task_id, report.result.error) == ("t-1", "too large")
    assert isinstance(tasks.state_of("t-2"), events.Fetching)
    assert (
        tasks_in("running").handle(events.ModelFailed(MODEL_URI, b"a manifest", "too late")) == []
    )
