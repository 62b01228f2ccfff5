"""Which task goes to whom, and when. No clock, socket or disk: calls in, effects out.

A start waits until the coordinator's status says that the round is open with exactly this start;
then its image is fetched and published; then each participant that is alive gets its task, and the
others get theirs when they come back. The round is forgotten when the coordinator closes it.

Effects are in order, and those that are changes of the store must be durable before the rest is
carried out. A task may go out more than once: whoever has done it ignores it.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from propeller_fl.errors import StrategyError
from propeller_fl.learn import strategy
from propeller_fl.manager._effects import (
    Effect,
    FetchImage,
    PublishImage,
    SendStop,
    SendTask,
    ShowLastReport,
    ShowReport,
)
from propeller_fl.manager._fleet import Fleet, Presence
from propeller_fl.manager._images import Image
from propeller_fl.store._launches import (
    ImageFixed,
    LaunchPhase,
    LaunchState,
    PropletSeen,
    RoundClosed,
    RoundOpened,
    SavedLaunch,
    StartDropped,
    StartTaken,
    TaskMoved,
)
from propeller_fl.wire import (
    Alive,
    Discovery,
    FlSpec,
    LaunchReport,
    Mode,
    Phase,
    RoundStart,
    RoundStatus,
    Scalar,
    TaskResult,
    TaskStart,
    TaskStop,
    image_uri,
)

_log = logging.getLogger(__name__)

_MAX_CANDIDATES: Final = 8  # starts of one id that wait for the coordinator's choice
_MAX_OPENED: Final = 10_000  # open rounds of which no start has been seen
_NAMED: Final = 20  # names in one log line
_FIRST_RETRY_S: Final = 1.0  # to fetch an image; doubles
_LONGEST_RETRY_S: Final = 30.0


class _Task(Enum):
    WAITING = auto()  # for its proplet, or for the image
    SENDING = auto()
    SENT = auto()
    DONE = auto()
    FAILED = auto()


_FINISHED: Final = (_Task.DONE, _Task.FAILED)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the coordinator opened a round with; empty and 0 where it did not say."""

    start_sha256: str
    model_sha256: str
    deadline_at_s: float


@dataclass(slots=True)
class _Round:
    start: RoundStart
    opened: _Opened
    tasks: dict[str, _Task]
    image_sha256: str  # the one it must have, or empty
    image_pinned: str = ""  # what leads to it when the start's own reference may not any more
    image: Image | None = None
    ready: bool = False  # the image is on the broker
    retry_s: float = _FIRST_RETRY_S  # the wait before it is fetched again
    wanted: bool = True  # the coordinator still takes updates
    error: str = ""
    hyperparams: Mapping[str, Scalar] | None = None  # with the strategy's; None: not to be had
    failed: dict[str, str] = field(default_factory=dict)


class Launcher:
    """The machine. It owns ``fleet``. ``task_env`` is put into the environment of every task."""

    def __init__(self, fleet: Fleet, task_env: Mapping[str, str] | None = None) -> None:
        self._fleet = fleet
        self._task_env = dict(task_env or {})
        self._rounds: dict[str, _Round] = {}  # open ones
        self._waiting: dict[str, dict[str, RoundStart]] = {}  # by round id, by digest
        self._opened: OrderedDict[str, _Opened] = OrderedDict()  # by the coordinator, by id

    def resume(
        self, launches: Iterable[SavedLaunch], proplets: Iterable[Discovery]
    ) -> list[Effect]:
        """Take up what the store holds. Tasks that went out are not sent again for this alone."""
        for discovery in proplets:
            self._fleet.restore(discovery)
        effects: list[Effect] = []
        for launch in launches:
            start = launch.start
            if launch.phase is LaunchPhase.WAITING:
                self._waiting.setdefault(start.round_id, {})[launch.start_sha256] = start
                continue
            round_ = self._add_round(
                start, _Opened(launch.start_sha256, launch.model_sha256, launch.deadline_at_s)
            )
            for task in launch.tasks:
                if task.proplet_id in round_.tasks:
                    round_.tasks[task.proplet_id] = _RESUMED[task.state]
                    if task.state is LaunchState.FAILED:
                        round_.failed[task.proplet_id] = task.error
            _log.info("round resumed", extra={"round_id": start.round_id})
            round_.image_sha256 = launch.image_sha256 or start.image_sha256
            round_.image_pinned = launch.image_pinned
            effects.append(_first_step(round_))
        return effects

    # --- rounds

    def started(self, start: RoundStart, closed_sha256: str) -> list[Effect]:
        """A start arrived. ``closed_sha256``: the start of the ended round of this id, or empty."""
        round_id, sha256 = start.round_id, start.digest()
        extra = {"round_id": round_id}
        round_ = self._rounds.get(round_id)
        opened = self._opened.get(round_id)
        if round_ is not None:
            taken = round_.opened.start_sha256
        else:
            taken = closed_sha256 or (opened.start_sha256 if opened else sha256)
        if taken != sha256:
            _log.warning("round start refused: another one has this id", extra=extra)
            return []
        waiting = self._waiting.get(round_id, {})
        if round_ or closed_sha256 or sha256 in waiting:
            _log.info("round start seen before: nothing to do", extra=extra)
            return []
        if len(waiting) >= _MAX_CANDIDATES:
            _log.warning(
                "round start refused: %d of this id wait already", len(waiting), extra=extra
            )
            return []
        self._waiting[round_id] = {**waiting, sha256: start}
        _log.info("round start taken, waiting for the coordinator to open it", extra=extra)
        effects: list[Effect] = [StartTaken(start, sha256)]
        if opened is not None:
            effects += self._open(round_id, opened)
        return effects

    def status_changed(self, status: RoundStatus) -> list[Effect]:
        """The coordinator said where a round stands."""
        round_id, sha256 = status.round_id, status.start_sha256
        round_ = self._rounds.get(round_id)
        opened = _Opened(sha256, status.model_sha256, status.deadline_at_s)
        match status.phase:
            case Phase.OPEN if round_ is None:
                self._remember_opened(round_id, opened)
                return self._open(round_id, opened)
            case Phase.OPEN | Phase.AGGREGATING:
                if round_ is not None and round_.opened.start_sha256 == sha256:
                    round_.wanted = status.phase is Phase.OPEN
                    if round_.opened != opened:  # resumed without, from a file of an older program
                        round_.opened = opened
                        return [_round_opened(round_id, opened)]
                elif round_ is not None:
                    _log.warning(
                        "the coordinator opened another start of this id than the one launched",
                        extra={"round_id": round_id},
                    )
                return []
            case Phase.REFUSED:
                return self._drop(round_id, sha256)
            case Phase.COMPLETE | Phase.FAILED:
                self._opened.pop(round_id, None)
                if round_ is not None and round_.opened.start_sha256 == sha256:
                    return self.completed(round_id)
                return self._drop(round_id, sha256)

    def completed(self, round_id: str) -> list[Effect]:
        """The round has ended. One that is not open is ignored."""
        round_ = self._rounds.pop(round_id, None)
        self._opened.pop(round_id, None)
        if round_ is None:
            return []
        unfinished = [
            proplet_id
            for proplet_id, task in round_.tasks.items()
            if task in (_Task.SENDING, _Task.SENT)
        ]
        _log.info("round closed, %d tasks to stop", len(unfinished), extra={"round_id": round_id})
        stops: list[Effect] = [
            SendStop(
                TaskStop(_task_id(round_id, proplet_id), proplet_id),
                self._fleet.has_own_topics(proplet_id),
            )
            for proplet_id in unfinished
        ]
        return [RoundClosed(round_id), *stops, ShowLastReport(_report(round_))]

    # --- the image

    def image_fetched(self, round_id: str, image: Image) -> list[Effect]:
        round_ = self._rounds.get(round_id)
        if round_ is None:
            return []
        round_.image = image
        round_.error = ""
        return [
            ImageFixed(round_id, image.sha256, image.pinned),
            PublishImage(round_id, image),
        ]

    def image_failed(self, round_id: str, error: str, again_after_s: float = 0.0) -> list[Effect]:
        """It cannot be had just now. As long as the round is open somebody may mend that.
        ``again_after_s``: not before, if whoever has it asks for that."""
        round_ = self._rounds.get(round_id)
        if round_ is None:
            return []
        effects = self._not_launched(round_, error)
        after_s, round_.retry_s = round_.retry_s, min(2 * round_.retry_s, _LONGEST_RETRY_S)
        return [*effects, _fetch(round_, max(after_s, again_after_s))]

    def image_refused(self, round_id: str, error: str) -> list[Effect]:
        """No broker takes it."""
        round_ = self._rounds.get(round_id)
        return [] if round_ is None else self._not_launched(round_, error)

    def image_published(self, round_id: str, now_s: float) -> list[Effect]:
        """The broker has the image: launch."""
        round_ = self._rounds.get(round_id)
        if round_ is None:
            return []
        round_.ready = True
        if not round_.wanted:
            return []
        effects: list[Effect] = []
        absent: list[str] = []
        for proplet_id, task in round_.tasks.items():
            if task is not _Task.WAITING:
                continue
            if self._fleet.is_alive(proplet_id, now_s):
                effects += self._send(round_, proplet_id)
            else:
                absent.append(proplet_id)
        extra = {"round_id": round_id}
        _log.info("launching %d of %d tasks", len(effects), len(round_.tasks), extra=extra)
        if absent:
            names = ",".join(absent[:_NAMED]) + (",…" if len(absent) > _NAMED else "")
            _log.warning(
                "%d participants are not alive, their tasks wait",
                len(absent),
                extra={**extra, "proplet_ids": names},
            )
        return [*effects, ShowReport(round_id)]

    # --- proplets

    def proplet_created(self, discovery: Discovery, now_s: float) -> list[Effect]:
        """A proplet (re)started: what it had not finished, it has lost."""
        self._fleet.created(discovery, now_s)
        return [PropletSeen(discovery), *self._offer(discovery.proplet_id, again=True)]

    def proplet_heard(self, alive: Alive, now_s: float) -> list[Effect]:
        match self._fleet.heard(alive, now_s):
            case Presence.CAME:
                return self._offer(alive.proplet_id, again=False)
            case Presence.RETURNED:
                return self._offer(alive.proplet_id, again=True)
            case Presence.LEFT:
                _log.info("proplet offline", extra={"proplet_id": alive.proplet_id})
            case Presence.STAYED:
                return self._repeat(alive.proplet_id)
        return []

    def task(self, round_id: str, proplet_id: str) -> tuple[TaskStart, bool] | None:
        """What to send, and whether on the proplet's own topic; ``None`` if no longer wanted."""
        round_ = self._rounds.get(round_id)
        if round_ is None or round_.image is None or round_.tasks[proplet_id] in _FINISHED:
            return None
        start = round_.start
        task = TaskStart(
            id=_task_id(round_id, proplet_id),
            name=round_id,
            proplet_id=proplet_id,
            image_url=image_uri(round_.image.sha256),
            image_sha256=round_.image.sha256,
            env={
                **self._task_env,
                "ROUND_ID": round_id,
                "PROPLET_ID": proplet_id,
                "MODEL_URI": start.model_uri,
                "HYPERPARAMS": json.dumps(dict(round_.hyperparams or {}), separators=(",", ":")),
                "FL_MODE": start.mode.value,
                "FL_UPDATE_FORMAT": start.update_format.value,
            },
            fl=FlSpec(
                round_id=round_id,
                model_uri=start.model_uri,
                model_sha256=round_.opened.model_sha256,
                format=start.update_format.value,
                deadline=round_.opened.deadline_at_s,
                hyperparams=round_.hyperparams or {},
                strategy=start.strategy,
            ),
            image_signatures=round_.image.signatures,
        )
        return task, self._fleet.has_own_topics(proplet_id)

    def task_sent(self, round_id: str, proplet_id: str) -> list[Effect]:
        """The broker has the task."""
        round_ = self._rounds.get(round_id)
        if round_ is None or round_.tasks[proplet_id] in _FINISHED:
            return []
        round_.tasks[proplet_id] = _Task.SENT
        return [TaskMoved(round_id, proplet_id, LaunchState.SENT), ShowReport(round_id)]

    def task_failed(self, round_id: str, proplet_id: str, error: str) -> list[Effect]:
        """The task cannot be sent, or the proplet reported that it failed."""
        round_ = self._rounds.get(round_id)
        if round_ is None or round_.tasks[proplet_id] is _Task.DONE:
            return []
        round_.tasks[proplet_id] = _Task.FAILED
        round_.failed[proplet_id] = error
        _log.warning(
            "task failed: %s", error, extra={"round_id": round_id, "proplet_id": proplet_id}
        )
        return [TaskMoved(round_id, proplet_id, LaunchState.FAILED, error), ShowReport(round_id)]

    def result_arrived(self, result: TaskResult) -> list[Effect]:
        """A proplet reported how its task ended. Of a task we do not know: ignored."""
        owner = self._owner(result)
        if owner is None:
            _log.debug("result of an unknown task ignored", extra={"task_id": result.task_id})
            return []
        round_, proplet_id = owner
        round_id = round_.start.round_id
        if result.error:
            return self.task_failed(round_id, proplet_id, result.error)
        if round_.tasks[proplet_id] is _Task.DONE:
            return []
        round_.tasks[proplet_id] = _Task.DONE
        round_.failed.pop(proplet_id, None)
        _log.info("task done", extra={"round_id": round_id, "proplet_id": proplet_id})
        return [TaskMoved(round_id, proplet_id, LaunchState.DONE), ShowReport(round_id)]

    def broker_returned(self) -> list[Effect]:
        """The broker knows our session; but what it had been given lately may be gone: its memory
        can be older than its end. Tasks are repeated anyway."""
        return [
            PublishImage(round_id, round_.image) if round_.image else ShowReport(round_id)
            for round_id, round_ in self._rounds.items()
        ]

    def broker_forgot(self, down_at_s: float) -> list[Effect]:
        """The broker, gone since ``down_at_s``, has lost our session, and perhaps all else:
        images, tasks, reports. A task sent to a proplet that is not back yet would be lost as
        well, so each has to be heard again first."""
        self._fleet.doubt(down_at_s)
        effects: list[Effect] = []
        for round_id, round_ in self._rounds.items():
            effects.append(ShowReport(round_id))
            if round_.image is None:
                continue
            round_.ready = False
            for proplet_id, task in round_.tasks.items():
                if task not in _FINISHED:
                    round_.tasks[proplet_id] = _Task.WAITING
            effects.append(PublishImage(round_id, round_.image))
        return effects

    def report(self, round_id: str) -> LaunchReport | None:
        """How an open round's launch stands."""
        round_ = self._rounds.get(round_id)
        return None if round_ is None else _report(round_)

    # --- inside

    def _add_round(self, start: RoundStart, opened: _Opened) -> _Round:
        tasks = dict.fromkeys(start.participants, _Task.WAITING)
        round_ = _Round(start, opened, tasks, start.image_sha256)
        try:
            round_.hyperparams = _hyperparams(start)
        except StrategyError as err:
            self._not_launched(round_, f"{err}; is the package of the strategy installed here?")
        self._rounds[start.round_id] = round_
        return round_

    def _open(self, round_id: str, opened: _Opened) -> list[Effect]:
        """If that start has arrived; the others of its id are dropped."""
        start = self._waiting.get(round_id, {}).pop(opened.start_sha256, None)
        if start is None:
            return []
        effects: list[Effect] = []
        for other in self._waiting.pop(round_id):
            _log.warning(
                "round start refused: another one has this id", extra={"round_id": round_id}
            )
            effects.append(StartDropped(round_id, other))
        return [
            *effects,
            _round_opened(round_id, opened),
            _first_step(self._add_round(start, opened)),
        ]

    @staticmethod
    def _not_launched(round_: _Round, error: str) -> list[Effect]:
        if error == round_.error:
            return []
        _log.error("nothing is launched: %s", error, extra={"round_id": round_.start.round_id})
        round_.error = error
        return [ShowReport(round_.start.round_id)]

    def _remember_opened(self, round_id: str, opened: _Opened) -> None:
        self._opened[round_id] = opened
        if len(self._opened) > _MAX_OPENED:
            self._opened.popitem(last=False)

    def _drop(self, round_id: str, sha256: str) -> list[Effect]:
        waiting = self._waiting.get(round_id, {})
        if waiting.pop(sha256, None) is None:
            return []
        if not waiting:
            del self._waiting[round_id]
        _log.info("round start dropped: the coordinator refused it", extra={"round_id": round_id})
        return [StartDropped(round_id, sha256)]

    def _offer(self, proplet_id: str, *, again: bool) -> list[Effect]:
        """Send what waits for a proplet; with ``again`` also what went out and has no result."""
        effects: list[Effect] = []
        for round_id, round_ in self._rounds.items():
            task = round_.tasks.get(proplet_id)
            if task is None or task in _FINISHED:
                continue
            if again:
                round_.tasks[proplet_id] = task = _Task.WAITING  # also where it cannot go yet
            if task is _Task.WAITING and round_.ready and round_.wanted:
                effects += self._send(round_, proplet_id)
                effects.append(ShowReport(round_id))
        return effects

    def _repeat(self, proplet_id: str) -> list[Effect]:
        """Send again, at every heartbeat, what has no result: a broker may have lost it (ours does,
        rarely, while it forgets another session). Ours ignore what they know; of proplets that
        have no start topic of their own we do not know that."""
        if not self._fleet.has_own_topics(proplet_id):
            return []
        return [
            SendTask(round_id, proplet_id)
            for round_id, round_ in self._rounds.items()
            if round_.wanted and round_.tasks.get(proplet_id) is _Task.SENT
        ]

    @staticmethod
    def _send(round_: _Round, proplet_id: str) -> Iterator[Effect]:
        round_.tasks[proplet_id] = _Task.SENDING
        yield SendTask(round_.start.round_id, proplet_id)

    def _owner(self, result: TaskResult) -> tuple[_Round, str] | None:
        """Whose task it is. Ids hold dots as well, so a task id alone may be read in two ways."""
        found = [
            (round_, proplet_id)
            for round_id, round_ in self._rounds.items()
            if result.task_id.startswith(f"{round_id}.")
            and (proplet_id := result.task_id[len(round_id) + 1 :]) in round_.tasks
            and result.proplet_id in ("", proplet_id)
        ]
        return found[0] if len(found) == 1 else None


_RESUMED: Final = {
    LaunchState.SENT: _Task.SENT,
    LaunchState.DONE: _Task.DONE,
    LaunchState.FAILED: _Task.FAILED,
}


def _round_opened(round_id: str, opened: _Opened) -> RoundOpened:
    return RoundOpened(round_id, opened.start_sha256, opened.model_sha256, opened.deadline_at_s)


def _task_id(round_id: str, proplet_id: str) -> str:
    return f"{round_id}.{proplet_id}"


def _report(round_: _Round) -> LaunchReport:
    launched = (_Task.SENT, *_FINISHED)
    return LaunchReport(
        round_id=round_.start.round_id,
        launched=tuple(p for p, task in round_.tasks.items() if task in launched),
        absent=tuple(
            p for p, task in round_.tasks.items() if task is _Task.WAITING and round_.ready
        ),
        failed=dict(round_.failed),
        error=round_.error,
    )


def _hyperparams(start: RoundStart) -> dict[str, Scalar]:
    """The operator's, and what the strategy adds. Raises :class:`StrategyError`."""
    given = dict(start.hyperparams)
    if start.mode is Mode.EVALUATE:
        return given
    try:
        return given | dict(strategy(start.strategy, start.strategy_args).hyperparams(given))
    except StrategyError:
        raise
    except Exception as err:  # somebody else's code
        raise StrategyError(f"strategy {start.strategy} failed: {err!r}") from err


def _first_step(round_: _Round) -> Effect:
    return ShowReport(round_.start.round_id) if round_.hyperparams is None else _fetch(round_)


def _fetch(round_: _Round, after_s: float = 0.0) -> FetchImage:
    start = round_.start
    reference = round_.image_pinned or start.task_wasm_image
    return FetchImage(start.round_id, reference, round_.image_sha256, after_s)
