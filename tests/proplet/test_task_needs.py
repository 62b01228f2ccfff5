"""What a task may ask for, and which model it is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from propeller_fl.proplet import Content, Tasks, events
from propeller_fl.wire import TaskStart

from .one_task import (
    CLOSED,
    DEADLINE_S,
    DIGEST,
    EXPIRED,
    GIVEN,
    IMAGE_CAME,
    MODEL,
    MODEL_CAME,
    MODEL_SHA256,
    MODEL_URI,
    OTHER_MODEL_CAME,
    OTHER_SHA256,
    STOPPED,
    URL,
    WAIT_S,
    WAYS,
    error_of,
    given_about,
    names,
    spec,
    start,
    tasks_in,
)

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
