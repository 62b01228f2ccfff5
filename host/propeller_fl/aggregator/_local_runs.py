"""Tasks of an aggregator, each carried out by a round of the local devices.

Nothing is remembered here: what a round was begun for is in the store before it is asked for, what
came of it is the local coordinator's. So a task that is given again after a crash goes on where its
round stands, and has the same answer to the bit if that has ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from propeller_fl import disk
from propeller_fl.aggregator._devices import Devices
from propeller_fl.aggregator._errand import Errand, errand_of, local_start, update_of
from propeller_fl.config import AggregatorConfig
from propeller_fl.errors import ImageError, LinkError, RequestError, StoreError
from propeller_fl.operator import Operator, RoundEvent
from propeller_fl.proplet import Output, events
from propeller_fl.signing import Signatures, signature_path, write_signature_file
from propeller_fl.store import LocalRoundStore
from propeller_fl.wire import (
    Mode,
    Model,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    Tensors,
)

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 8  # rounds upstream; more of them wait
_LOOK_S: Final = 2.0  # whether anybody still wants the answer
_LOOKS_UNANSWERED: Final = 5  # before a round is asked for again
_LULL_S: Final = 0.05
_AGAIN_S: Final = 1.0
_ROUNDING_S: Final = 1.0
_IMAGES_KEPT: Final = 16


@dataclass(eq=False, slots=True)
class _Job:
    proplet_id: str
    run: events.Run
    stop: threading.Event = field(default_factory=threading.Event)
    begun: bool = False


class LocalRuns:
    """``RunsTasks`` of a proplet host.

    ``operator`` makes a session with the local broker, ``now`` tells the seconds since the epoch,
    or None where the machine does not know. ``images`` is a directory for modules on their way.
    """

    def __init__(
        self,
        config: AggregatorConfig,
        devices: Devices,
        store: LocalRoundStore,
        operator: Callable[[], Operator],
        images: Path,
        now: Callable[[], float | None],
    ) -> None:
        self._config = config
        self._devices = devices
        self._store = store
        self._operator = operator
        self._images = images
        self._now = now
        self._planning = threading.Lock()  # the store has one thread at a time
        self._jobs: dict[tuple[str, str], _Job] = {}  # by proplet and task
        self._closing = threading.Event()
        self._executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="local-round")

    @property
    def queued(self) -> int:
        return sum(not job.begun for job in list(self._jobs.values()))

    def run(self, proplet_id: str, run: events.Run) -> Future[Output]:
        """Have the devices do it. The future raises :class:`RequestError` where that cannot be, or
        too few of them have answered."""
        job = self._jobs[proplet_id, run.start.id] = _Job(proplet_id, run)
        return self._executor.submit(self._run, job)

    def stop(self, proplet_id: str, task_id: str) -> None:
        job = self._jobs.get((proplet_id, task_id))
        if job is not None:
            job.stop.set()
            if not job.begun:  # and never will
                self._forget(job)

    def read(self, path: str) -> Future[bytes]:
        """Never: modules come from the manager, whose digest of them the devices check."""
        refusal: Future[bytes] = Future()
        refusal.set_exception(
            ImageError(f"an aggregator does not read the file {path}", hint="see docs/images.md")
        )
        return refusal

    def close(self) -> None:
        """Leave local rounds where they are; their tasks come again."""
        self._closing.set()
        for job in list(self._jobs.values()):
            job.stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: _Job) -> Output:
        job.begun = True
        try:
            errand = errand_of(job.run)
            while True:
                try:
                    return self._carry_out(errand, job)
                except (LinkError, StoreError) as err:
                    _log.warning("a local round waits: %s", err)
                    if job.stop.wait(_AGAIN_S):
                        raise
        finally:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        key = job.proplet_id, job.run.start.id
        if self._jobs.get(key) is job:
            del self._jobs[key]

    def _carry_out(self, errand: Errand, job: _Job) -> Output:
        start = self._plan(errand, job.run.start.image_signatures, job.stop)
        self._devices.offer(start.model_uri, errand.model)
        with self._operator() as operator:
            complete = self._wait(operator, errand, start, job.stop)
            if complete.status is Outcome.FAILED:
                raise RequestError(f"local round {start.round_id} failed: {complete.detail}")
            trains = errand.mode is Mode.TRAIN
            tensors = _mean(operator, complete, job.stop) if trains else {}
        output = update_of(errand, job.proplet_id, complete, tensors)
        _log.info(
            "%d of %d devices answered, %d samples, %d bytes for upstream",
            complete.num_updates,
            len(start.participants),
            complete.total_samples,
            len(output.payload),
            extra={"round_id": errand.about.round_id},
        )
        return output

    def _plan(self, errand: Errand, signatures: Signatures, stop: threading.Event) -> RoundStart:
        """The one that was planned when the task came first, or now."""
        with self._planning:
            image = self._keep_image(errand, signatures)
            planned = self._store.find(errand.sha256)
        if planned is not None:
            return planned
        devices = self._devices.gather(stop)
        with self._planning:
            return self._store.find(errand.sha256) or self._store.plan(
                errand.sha256,
                lambda number, is_used: local_start(
                    errand,
                    devices,
                    self._config,
                    number=number,
                    is_used=is_used,
                    image=image,
                    now_s=self._now(),
                ),
            )

    def _keep_image(self, errand: Errand, signatures: Signatures) -> Path:
        """Where the local manager finds it, with the signatures it came with."""
        path = self._images / f"{errand.image_sha256}.wasm"
        try:
            self._images.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(errand.image)
            temporary.replace(path)
            others = sorted(self._images.glob("*.wasm"), key=lambda one: one.stat().st_mtime)
            for old in others[:-_IMAGES_KEPT]:
                old.unlink(missing_ok=True)
                signature_path(old).unlink(missing_ok=True)
        except OSError as err:
            raise StoreError(
                f"{path} cannot be written: {err.strerror}", hint=disk.remedy(err, "data_dir")
            ) from err
        if signatures:
            write_signature_file(signature_path(path), errand.image_sha256, signatures)
        return path

    def _wait(
        self, operator: Operator, errand: Errand, start: RoundStart, stop: threading.Event
    ) -> RoundComplete:
        """The end of the local round, which its coordinator sees to; asked for until it answers.

        Raises :class:`RequestError` when it is refused, nobody wants it any more, or it is about
        another model.
        """
        status: RoundStatus | None = None
        complete: RoundComplete | None = None
        looks = 0
        while not stop.is_set():
            if status is None and looks % _LOOKS_UNANSWERED == 0:
                self._devices.ask(start)
            looks += 1
            for event in _look(operator, start.round_id):
                match event:
                    case RoundComplete():
                        complete = event
                    case RoundStatus(start_sha256=sha256) if sha256 == start.digest():
                        status = event
                        _check_status(status, errand)
            if status is not None and complete is not None and _is_end(complete, status, start):
                return complete
            stop.wait(_LULL_S)
        if not self._closing.is_set():
            self._devices.stop_tasks(start.round_id, start.participants)
        raise RequestError(f"round {errand.about.round_id} has ended upstream")


def _look(operator: Operator, round_id: str) -> list[RoundEvent]:
    """What is said of a round for a while, or until it ends."""
    events: list[RoundEvent] = []
    with contextlib.suppress(RequestError):  # it has not ended
        for event in operator.watch(round_id, _LOOK_S):
            events.append(event)
    return events


def _check_status(status: RoundStatus, errand: Errand) -> None:
    """Raises :class:`RequestError` for a round that comes to nothing."""
    if status.phase is Phase.REFUSED:
        raise RequestError(f"local round {status.round_id} is refused: {status.detail}")
    if status.model_sha256 not in ("", errand.model_sha256):
        raise RequestError(
            f"local round {status.round_id} was opened on the model with the digest "
            f"{status.model_sha256}, and the round upstream is about {errand.model_sha256}",
            hint="does anybody else write on the topics fl/models/upstream-… of the local broker?",
        )


def _is_end(complete: RoundComplete, status: RoundStatus, start: RoundStart) -> bool:
    """Whether that is the end of this very round, and not of one of the same id, in the life of a
    coordinator before: it has ended by the clock by which this one was opened."""
    try:
        ended_s = datetime.fromisoformat(complete.completed_at).timestamp()
    except ValueError:
        return False
    opened_s = status.deadline_at_s - start.timeout_s
    return status.phase.closed and ended_s >= opened_s - _ROUNDING_S


def _mean(operator: Operator, complete: RoundComplete, stop: threading.Event) -> Tensors:
    """The model that the local round made. Raises :class:`RequestError` when there is another in
    its place."""
    document: bytes | None = None
    while document is None:
        try:
            document = operator.document(complete.model_topic)
        except RequestError:  # not published yet
            if stop.is_set():
                raise
    found = hashlib.sha256(document).hexdigest()
    if found != complete.sha256:
        raise RequestError(
            f"{complete.model_topic} has the digest {found} here, and local round "
            f"{complete.round_id} made {complete.sha256}",
            hint="does anybody else write on that topic of the local broker?",
        )
    return Model.decode(document).tensors
