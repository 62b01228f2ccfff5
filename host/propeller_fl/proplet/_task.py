"""The tasks of one proplet as a pure machine: event in, new state and effects out.

No clock, socket, thread or randomness inside: waits are effects, and their end is an event.

    Fetching ── image and model are there ──▶ Running ── it wrote an update ──▶ Delivering
        │                                        │                                  │
        └─ failed, stopped, round closed ─▶ Done ◀─ failed, stopped, round closed,  │
                                              ▲     or not part of a round          │
                                              └── answered, stopped, round closed ──┘

An update is sent, and sent again, until the coordinator has answered it or the round is closed. The
wait for an answer begins when the broker has taken the update, and doubles.

A task that says which model it is about is not run on another. Whoever overwrites a retained model
may mend that, so the right one is waited for until the round is closed, or long over by the clock
(``_deadline.py``); only then has the task failed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import unquote, urlsplit

from propeller_fl.errors import ImageError, MessageError, PropellerError
from propeller_fl.proplet._deadline import MARGIN_S, left_s
from propeller_fl.proplet._task_events import (
    Answered,
    CancelRun,
    Delivering,
    Done,
    Effect,
    EndRun,
    Event,
    Expire,
    Expired,
    Failed,
    Fetching,
    Given,
    ImageArrived,
    ImageFailed,
    ModelArrived,
    ModelFailed,
    Ran,
    ReadImage,
    Reconnected,
    Report,
    RoundClosed,
    Run,
    Running,
    SendUpdate,
    State,
    Stopped,
    Taken,
    Wait,
    Waited,
    Want,
)
from propeller_fl.proplet._update import Output
from propeller_fl.wire import (
    AckStatus,
    Reason,
    TaskResult,
    TaskStart,
    UpdateAck,
    check_id,
    check_model_uri,
    image_sha256,
    is_sha256,
)

_log = logging.getLogger(__name__)

MAX_LIVE: Final = 16
"""Tasks a proplet has under way; one more takes the place of the oldest that still fetches."""

DONE_KEPT: Final = 32
"""Results remembered, to answer a task that is sent again."""

MAX_WAIT_S: Final = 60.0
"""The longest wait between two sendings of an update, unless the first is longer."""

_STRANGER_SENDS: Final = 5
"""How often an update is sent to a coordinator that says it does not know the round."""

_MAX_ERROR_CHARS: Final = 1000


def round_of(start: TaskStart) -> str:
    """The round a task is part of, or empty."""
    return start.env.get("ROUND_ID", "")


def model_of(start: TaskStart) -> str:
    """The topic of the model it starts from, without prefix, or empty."""
    return start.env.get("MODEL_URI", "")


class Tasks:
    """All tasks of one proplet, by id."""

    def __init__(self, proplet_id: str, resend_after_s: float) -> None:
        self._proplet_id = proplet_id
        self._resend_after_s = resend_after_s
        self._states: dict[str, State] = {}  # those that are not done
        self._done: dict[str, Done] = {}  # the last of the others, the oldest first

    def state_of(self, task_id: str) -> State | None:
        """Where a task stands; None for one that is unknown, or forgotten."""
        return self._states.get(task_id) or self._done.get(task_id)

    @property
    def wants(self) -> frozenset[Want]:
        """What is to be subscribed to now, and no longer than it is in here."""
        return frozenset(want for state in self._states.values() for want in _wants(state))

    def handle(self, event: Event) -> list[Effect]:
        """Let ``event`` happen."""
        match event:
            case Given(start, now_s):
                return self._given(start, now_s)
            case Stopped(task_id, addressed):
                return self._stopped(task_id, addressed)
            case Failed(task_id, error):
                return self._end(task_id, error)
            case Ran(task_id) | Taken(task_id) | Waited(task_id) | Expired(task_id):
                return self._step(task_id, event)
        return [effect for task_id in list(self._states) for effect in self._step(task_id, event)]

    def _given(self, start: TaskStart, now_s: float | None) -> list[Effect]:
        known = self.state_of(start.id)
        if known is not None:
            return self._given_again(known)
        effects: list[Effect] = []
        live = list(self._states)
        if len(live) >= MAX_LIVE:
            waiting = (t for t in live if isinstance(self._states[t], Fetching))
            oldest = next(waiting, None)
            if oldest is None:
                error = f"this proplet is busy with {len(live)} tasks: send it again later"
                return [Report(self._failure(start.id, error))]  # not remembered: it may come again
            effects += self._end(oldest, f"given up in favour of one of {MAX_LIVE} newer tasks")
        time_left_s = left_s(start, now_s)
        try:
            path = _check(start)
            _check_deadline(start, time_left_s)
        except PropellerError as error:
            return [*effects, *self._become_done(self._failure(start.id, str(error)))]
        self._states[start.id] = Fetching(start)
        if start.file:
            effects += self._step(start.id, ImageArrived(start.image_url, start.file))
        elif path is not None:
            effects.append(ReadImage(start.id, start.image_url, path))
        if time_left_s is not None:
            effects.append(Expire(start.id, time_left_s))
        return effects

    def _given_again(self, state: State) -> list[Effect]:
        match state:
            case Done(result):
                return [Report(result)]
            case Delivering():
                return self._send_again(state)
        return []

    def _stopped(self, task_id: str, addressed: bool) -> list[Effect]:
        state = self.state_of(task_id)
        if isinstance(state, Delivering):  # the module has done its part, and nobody asks for more
            return self._become_done(self._success(state, "stopped"))
        if isinstance(state, Running) and state.start.daemon:
            return [EndRun(task_id)]  # that is how a daemon ends
        error = "stopped by the manager"
        if state is None and addressed:
            self._become_done(self._failure(task_id, error))  # to be reported when it comes
            return []
        return self._end(task_id, error)

    def _step(self, task_id: str, event: Event) -> list[Effect]:
        """What happens to one task by an event that is not the end of it everywhere."""
        match self._states.get(task_id), event:
            case Fetching(start) as state, ImageArrived(url, image) if url == start.image_url:
                if state.image is not None:
                    return []
                try:
                    _verify(start, image)
                except ImageError as error:
                    return self._end(task_id, str(error))
                return self._run_when_ready(replace(state, image=image))
            case Fetching(start, image=None), ImageFailed(url, error) if url == start.image_url:
                return self._end(task_id, error)
            case Fetching(start) as state, ModelArrived(uri, model, content) if uri == model_of(
                start
            ):
                if not _is_wanted(start, model):
                    return self._wrong_model(state, model)
                return self._run_when_ready(replace(state, model=model, content=content))
            case Fetching(start) as state, ModelFailed(uri, model, error) if uri == model_of(start):
                if not _is_wanted(start, model):
                    return self._wrong_model(state, model)
                return self._end(task_id, error)
            case Fetching() as state, Expired():
                return self._end(task_id, f"the round's deadline has passed before {_lacks(state)}")
            case Running(start), Ran(_, output):
                return self._deliver(start, output)
            case Delivering(wait_s=wait_s, sends=sends) as state, Taken(_, jitter):
                if state.taken:
                    return []
                self._states[task_id] = replace(state, taken=True)
                return [Wait(task_id, sends, wait_s * (0.75 + jitter / 2))]
            case Delivering(sends=sends) as state, Waited(_, after) if after == sends:
                return self._send_again(state)
            case Delivering() as state, Reconnected():
                return self._send_again(state)
            case Delivering(start, _, sha256) as state, Answered(ack) if (
                ack.sha256 == sha256
                and ack.round_id == round_of(start)
                and ack.proplet_id == self._proplet_id
            ):
                return self._answered(state, ack)
            case (Fetching(start) | Running(start) | Delivering(start)) as state, RoundClosed(
                round_id, how
            ) if round_id == round_of(start):
                return self._round_closed(state, how)
        return []

    def _wrong_model(self, state: Fetching, model: bytes) -> list[Effect]:
        """Wait on: somebody may have overwritten the right one for a moment."""
        found = hashlib.sha256(model).hexdigest()
        if state.model is None and state.wrong_sha256 != found:
            self._states[state.start.id] = replace(state, wrong_sha256=found)
            _log.warning(
                "not trained on %s, waiting for the right one: it has the digest %s, not %s",
                model_of(state.start),
                found,
                state.start.fl.model_sha256 if state.start.fl else "any",
                extra={"task_id": state.start.id, "round_id": round_of(state.start)},
            )
        return []

    def _run_when_ready(self, state: Fetching) -> list[Effect]:
        start, image = state.start, state.image
        if image is None or (model_of(start) and state.model is None):
            self._states[start.id] = state
            return []
        self._states[start.id] = Running(start)
        env = {**start.env, "PROPLET_ID": self._proplet_id}
        return [Run(replace(start, env=env), image, state.content or state.model)]

    def _deliver(self, start: TaskStart, output: Output) -> list[Effect]:
        if not round_of(start):
            text = output.payload.decode(errors="replace") or "the module wrote nothing"
            return self._become_done(TaskResult(start.id, self._proplet_id, results=text))
        self._states[start.id] = Delivering(start, output, output.sha256, self._resend_after_s)
        return [SendUpdate(start.id, round_of(start), output.payload)]

    def _send_again(self, state: Delivering) -> list[Effect]:
        if not state.taken:
            return []  # the last one is still with the link, which sends it again by itself
        task_id = state.start.id
        longest_s = max(MAX_WAIT_S, self._resend_after_s)
        self._states[task_id] = replace(
            state, taken=False, sends=state.sends + 1, wait_s=min(2 * state.wait_s, longest_s)
        )
        return [SendUpdate(task_id, round_of(state.start), state.output.payload)]

    def _answered(self, state: Delivering, ack: UpdateAck) -> list[Effect]:
        if ack.status is AckStatus.ACCEPTED:
            return self._become_done(self._success(state, "accepted"))
        if ack.reason == Reason.ROUND_CLOSED:
            return self._become_done(self._success(state, "round_closed"))
        if ack.reason == Reason.UNKNOWN_ROUND and state.sends < _STRANGER_SENDS:
            return []  # the coordinator may hear of the round after it hears of the update
        detail = f"{ack.reason}: {ack.detail}" if ack.detail else ack.reason
        return self._end(state.start.id, f"the coordinator refused the update: {detail}")

    def _round_closed(self, state: Fetching | Running | Delivering, how: str) -> list[Effect]:
        if isinstance(state, Delivering):
            # Not a failure: the update may well be the one that closed the round, and the answer to
            # it be on another topic, behind the news of the end.
            return self._become_done(self._success(state, "round_closed"))
        before = _lacks(state) if isinstance(state, Fetching) else "the module had run"
        return self._end(
            state.start.id, f"round {round_of(state.start)} closed ({how}) before {before}"
        )

    def _end(self, task_id: str, error: str) -> list[Effect]:
        """The end of a live task, for the reason ``error``."""
        state = self._states.get(task_id)
        if state is None:
            return []
        effects: list[Effect] = [CancelRun(task_id)] if isinstance(state, Running) else []
        if isinstance(state, Fetching) and state.model is None and state.wrong_sha256:
            error = f"{_mismatch(state)}; {error}"
        return [*effects, *self._become_done(self._failure(task_id, error))]

    def _become_done(self, result: TaskResult) -> list[Effect]:
        self._states.pop(result.task_id, None)
        self._done.pop(result.task_id, None)
        self._done[result.task_id] = Done(result)
        if len(self._done) > DONE_KEPT:
            del self._done[next(iter(self._done))]
        return [Report(result)]

    def _failure(self, task_id: str, error: str) -> TaskResult:
        line = " ".join(error.split())[:_MAX_ERROR_CHARS]
        return TaskResult(task_id, self._proplet_id, error=line)

    def _success(self, state: Delivering, answer: str) -> TaskResult:
        summary = {
            "update_sha256": state.sha256,
            "size_bytes": len(state.output.payload),
            "num_samples": state.output.num_samples,
            "answer": answer,
        }
        text = json.dumps(summary, separators=(",", ":"))
        return TaskResult(state.start.id, self._proplet_id, results=text)


def _is_wanted(start: TaskStart, model: bytes) -> bool:
    """Whether this document is the model the task is about, as far as the task says."""
    wanted = start.fl.model_sha256 if start.fl else ""
    return not wanted or hashlib.sha256(model).hexdigest() == wanted


def _wants(state: State) -> Iterator[Want]:
    if isinstance(state, Done):
        return
    if round_of(state.start):
        yield Want("round", round_of(state.start))
    if isinstance(state, Fetching):
        if state.image is None and image_sha256(state.start.image_url):
            yield Want("image", state.start.image_url)
        elif state.image is None and _in_registry(state.start.image_url):
            yield Want("registry", state.start.image_url)
        if state.model is None and model_of(state.start):
            yield Want("model", model_of(state.start))


def _check(start: TaskStart) -> str | None:
    """The local path of the image, if that is where it is.

    Raises :class:`MessageError` or :class:`ImageError` for a task that can never run.
    """
    if round_of(start):
        check_id(round_of(start), "env.ROUND_ID")
    if model_of(start):
        check_model_uri(model_of(start), "env.MODEL_URI")
    if start.fl is not None:
        _check_same("round_id", start.fl.round_id, "ROUND_ID", round_of(start))
        _check_same("model_uri", start.fl.model_uri, "MODEL_URI", model_of(start))
    if start.unsupported:
        raise MessageError(
            Reason.BAD_FIELD,
            f"the task asks for {start.unsupported}, which this proplet cannot do",
            field=start.unsupported,
            hint="leave it out, or give the task to a proplet that can",
        )
    if start.image_sha256 and not is_sha256(start.image_sha256):
        raise ImageError(
            f"image_sha256 is {start.image_sha256!r}", hint="64 lower-case hexadecimal digits"
        )
    if start.file or _in_registry(start.image_url):
        return None
    named = image_sha256(start.image_url)
    if named is None:
        return _path_of(start.image_url)
    if start.image_sha256 and start.image_sha256 != named:
        raise ImageError(
            f"image_url names the digest {named}, and image_sha256 is {start.image_sha256}",
            hint="leave image_sha256 out, or make them the same",
        )
    return None


def _check_same(field: str, said: str, variable: str, value: str) -> None:
    if said != value:
        raise MessageError(
            Reason.BAD_FIELD,
            f"fl.{field} is {said!r}, and env.{variable} is {value!r}",
            field=f"fl.{field}",
            hint="a task is about one round and one model: make them the same",
        )


def _check_deadline(start: TaskStart, time_left_s: float | None) -> None:
    if time_left_s is not None and time_left_s < 0:
        raise MessageError(
            Reason.BAD_FIELD,
            f"the deadline of round {round_of(start)} passed {MARGIN_S - time_left_s:.0f} s ago",
            field="fl.deadline",
            hint="if the round is still open, set the clocks of coordinator and proplet",
        )


def _lacks(state: Fetching) -> str:
    """What a task still waits for, as the end of a sentence."""
    lacking = "the image" if state.image is None else f"the model {model_of(state.start)}"
    return f"{lacking} was there"


def _mismatch(state: Fetching) -> str:
    wanted = state.start.fl.model_sha256 if state.start.fl else ""
    return (
        f"model: mismatch: {model_of(state.start)} has the digest {state.wrong_sha256},"
        f" and the round is about {wanted}"
    )


def _in_registry(url: str) -> bool:
    """Whether it is a name that only a registry can make something of: ``oci://host/name:tag``,
    ``host/name``, or ``builtin:name``, which our manager serves as well."""
    for scheme in ("oci://", "builtin:"):
        if url.startswith(scheme):
            return len(url) > len(scheme)
    head, slash, tail = url.partition("/")
    return bool(head and slash and tail and head != "fl" and "//" not in url)  # fl/: a topic


def _path_of(url: str) -> str:
    """The path in ``/a/file`` or ``file:///a/file``."""
    if url.startswith("/"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path[:1] == "/":
        return unquote(parts.path)
    raise ImageError(
        f"image_url is {url[:80]!r}, which this proplet cannot fetch",
        hint="fl/images/{sha256}, where the manager puts images; file:///path, or /path; or a name "
        "in a registry, such as oci://host/name:tag",
    )


def _verify(start: TaskStart, image: bytes) -> None:
    wanted = start.image_sha256 or image_sha256(start.image_url)
    found = hashlib.sha256(image).hexdigest()
    if wanted and found != wanted:
        raise ImageError(
            f"the image at {start.image_url} has the digest {found}, not {wanted}",
            hint="publish the right bytes there, or ask for the digest they have",
        )
