"""A task of round r-1 and what happens to it, for the tests of the machine of tasks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from propeller_fl.proplet import Output, Tasks, events
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


def tasks_in(state: str) -> Tasks:
    tasks = Tasks("p-1", WAIT_S)
    for event in WAYS[state]:
        tasks.handle(event)
    return tasks


def names(effects: list[events.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def error_of(effects: list[events.Effect]) -> str:
    reports = [effect.result for effect in effects if isinstance(effect, events.Report)]
    assert len(reports) == 1
    assert reports[0].results == ""
    return reports[0].error
