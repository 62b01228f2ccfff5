"""The threads that run modules, and what they share: runtime, data, limits."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from propeller_fl.config import PropletConfig
from propeller_fl.errors import ConfigError, ImageError
from propeller_fl.log import Trouble
from propeller_fl.observe import ModuleRan, Watcher, nobody
from propeller_fl.proplet._contents import Content
from propeller_fl.proplet._contract import MAX_IMAGE_BYTES
from propeller_fl.proplet._data import DataSource
from propeller_fl.proplet._generic import GenericRuns, is_generic
from propeller_fl.proplet._lanes import CompiledModule
from propeller_fl.proplet._large_update import LargeUpdates
from propeller_fl.proplet._limits import Limits
from propeller_fl.proplet._runtime import Invocation, RunResult, WasmtimeRuntime
from propeller_fl.proplet._stop import Stop
from propeller_fl.proplet._task import round_of
from propeller_fl.proplet._task_events import Run
from propeller_fl.proplet._update import Output, prepare_update
from propeller_fl.signing import TrustedKeys
from propeller_fl.wire import Mode

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_RETRY_S: Final = 1.0
_TIDY_AFTER_S: Final = 0.003


class Workers:
    """One pool for all proplets of a process. Use as a context manager, or call :meth:`close`.

    When the machine has no file descriptor, disk space or memory left, a task waits for some, at
    most as long as a module may run. ``cache_dir`` keeps compiled modules between processes; None
    keeps them in this one only. ``trusted_keys`` is the directory of those whose modules are run,
    where ``config.require_signature``. ``updates`` keeps those of large models as files.

    Raises ``ConfigError`` when a signature is required and there is no such directory named.
    """

    def __init__(
        self,
        config: PropletConfig,
        data: DataSource,
        *,
        cache_dir: Path | None = None,
        trusted_keys: Path | None = None,
        updates: LargeUpdates | None = None,
        watch: Watcher = nobody,
    ) -> None:
        self._trusted: TrustedKeys | None = None
        if config.require_signature:
            if trusted_keys is None:
                raise ConfigError(
                    "proplet.require_signature, and no keys to trust",
                    hint="proplet.trusted_keys is their directory",
                )
            self._trusted = TrustedKeys(trusted_keys)
        self.runtime = WasmtimeRuntime(cache_dir)
        self._data = data
        self._updates = updates
        self._watch = watch
        self._limits = Limits(
            fuel=config.fuel,
            wall_time_s=config.wall_time_s,
            memory_bytes=config.memory_bytes,
            output_bytes=config.output_bytes,
        )
        self._generic = GenericRuns(
            fuel=config.fuel,
            wall_time_s=config.wall_time_s,
            memory_bytes=config.memory_bytes,
            output_bytes=config.output_bytes,
        )
        self._stops: dict[tuple[str, str], Stop] = {}  # by proplet and task
        self._stops_lock = threading.Lock()
        self._closing = threading.Event()
        self._queued: deque[object] = deque()  # what no thread has begun with
        self._wanted = threading.Event()  # a thread
        self._executor = ThreadPoolExecutor(
            config.workers or os.cpu_count() or 1, thread_name_prefix="wasm-worker"
        )

    def run(self, proplet_id: str, run: Run) -> Future[Output]:
        """Run a task's module on the proplet's data, when its turn comes; a daemon at once."""
        key, stop = (proplet_id, run.start.id), Stop()
        with self._stops_lock:
            self._stops[key] = stop
        answer = self._begin(proplet_id, run, stop)
        answer.add_done_callback(lambda _: self._forget(key, stop))
        return answer

    def stop(self, proplet_id: str, task_id: str) -> None:
        """End a run at once, also one that has not begun."""
        with self._stops_lock:
            stop = self._stops.get((proplet_id, task_id))
        if stop is not None:
            stop.now()

    def read(self, path: str) -> Future[bytes]:
        """Read an image from a local file."""
        return self._executor.submit(self._patiently, lambda: _read_image(Path(path)))

    @property
    def queued(self) -> int:
        """Runs of rounds that no thread has begun with. Any thread."""
        return len(self._queued)

    def close(self) -> None:
        """Drop what has not begun, and stop what has."""
        self._closing.set()
        with self._stops_lock:
            stops = list(self._stops.values())
        for stop in stops:
            stop.now()
        self._wanted.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, proplet_id: str, run: Run, stop: Stop) -> Future[Output]:
        updates, answer = self._updates, Future[Output]()
        if updates is not None and isinstance(run.model, Content) and round_of(run.start):
            return self._executor.submit(
                self._patiently, lambda: self._run_large(proplet_id, run, updates, stop), stop
            )
        if not is_generic(run.start, run.image):
            self._queued.append(answer)
            self._executor.submit(self._answer, answer, proplet_id, run, stop)
            self._wanted.set()
            return answer

        def job() -> Output:
            self._require_trust(run)
            return Output(self._generic.run(run.start, run.image, stop).encode())

        if not run.start.daemon:
            return self._executor.submit(self._patiently, job, stop)
        threading.Thread(target=_fulfil, args=[answer, job], name="wasm-daemon").start()
        return answer

    def _forget(self, key: tuple[str, str], stop: Stop) -> None:
        with self._stops_lock:
            if self._stops.get(key) is stop:  # and not that of the same task, given again
                del self._stops[key]

    def _patiently(self, job: Callable[[], _T], stop: Stop | None = None) -> _T:
        given_up = self._closing if stop is None else stop.wanted
        give_up_s = time.monotonic() + self._limits.wall_time_s
        trouble = Trouble()
        while True:
            try:
                return job()
            except Exception as error:
                if not _passes(error) or time.monotonic() > give_up_s:
                    raise
                if trouble.is_news(str(error)):
                    _log.warning("a task waits: %s", error)
                if given_up.wait(_RETRY_S):
                    raise

    def _answer(self, answer: Future[Output], proplet_id: str, run: Run, stop: Stop) -> None:
        """Give ``answer`` its result, and only then tidy up: somebody waits for it."""
        self._queued.popleft()  # one of them begins; which, does not matter
        if not answer.set_running_or_notify_cancel():
            return
        ended: RunResult | None = None
        with contextlib.ExitStack() as leftovers:
            try:
                with self._watched(proplet_id, run):
                    ended = self._patiently(
                        lambda: self._run(proplet_id, run, stop, leftovers), stop
                    )
                answer.set_result(_output(ended, proplet_id, run))
            except BaseException as error:
                answer.set_exception(error)
            # Two threads that both want the GIL keep each other waiting for milliseconds: the other
            # one, which sends the update, goes first. Unless there is more to run than threads.
            self._wanted.clear()
            if not self._queued:
                self._wanted.wait(_TIDY_AFTER_S)
        if ended is not None:
            _log.info(
                "module ended after %.3f s with %d bytes of output",
                ended.duration_s,
                len(ended.stdout),
                extra={
                    "round_id": round_of(run.start),
                    "proplet_id": proplet_id,
                    "task_id": run.start.id,
                },
            )

    def _require_trust(self, run: Run) -> None:
        """Before anything of the module is compiled."""
        if self._trusted is not None:
            self._trusted.require(run.image, run.start.image_signatures)

    def _run(
        self, proplet_id: str, run: Run, stop: Stop, leftovers: contextlib.ExitStack
    ) -> RunResult:
        module, invocation = self._prepare(proplet_id, run)
        return self.runtime.run(module, invocation, self._limits, stop=stop, leftovers=leftovers)

    def _run_large(self, proplet_id: str, run: Run, updates: LargeUpdates, stop: Stop) -> Output:
        with self._watched(proplet_id, run):
            module, invocation = self._prepare(proplet_id, run)
            return updates.run(self.runtime, module, invocation, self._limits, stop)

    @contextlib.contextmanager
    def _watched(self, proplet_id: str, run: Run) -> Iterator[None]:
        begun_s, error = time.monotonic(), ""
        try:
            yield
        except BaseException as err:
            error = str(err) or type(err).__name__
            raise
        finally:
            duration_s = time.monotonic() - begun_s
            self._watch(ModuleRan(round_of(run.start) or "", proplet_id, duration_s, error))

    def _prepare(self, proplet_id: str, run: Run) -> tuple[CompiledModule, Invocation]:
        self._require_trust(run)
        module = self.runtime.compile(run.image)
        evaluates = run.start.env.get("FL_MODE") == Mode.EVALUATE
        data = self._data.data_of(proplet_id, held_out=evaluates)
        files: dict[str, bytes | Path] = {"data": data}
        if run.model is not None:
            files["model"] = run.model if isinstance(run.model, bytes) else run.model.path
        return module, Invocation(run.start.env, files)


def _output(ended: RunResult, proplet_id: str, run: Run) -> Output:
    round_id = round_of(run.start)
    if not round_id:
        return Output(ended.stdout)
    return prepare_update(ended.stdout, round_id, proplet_id)


def _fulfil(future: Future[_T], job: Callable[[], _T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except BaseException as error:
        future.set_exception(error)


def _read_image(path: Path) -> bytes:
    """Raises ``ImageError``."""
    try:
        if not path.is_file():
            raise ImageError(f"there is no file {path}", hint="the path is on the proplet's host")
        with path.open("rb") as file:
            image = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise ImageError(f"the image {path} cannot be read: {error.strerror}") from error
    if len(image) > MAX_IMAGE_BYTES:
        raise ImageError(f"the image {path} has more than {MAX_IMAGE_BYTES} bytes")
    return image


def _passes(error: BaseException) -> bool:
    """Whether it comes of something that the machine may have again in a moment."""
    return any(isinstance(e, OSError) and e.errno in _PASSING for e in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
