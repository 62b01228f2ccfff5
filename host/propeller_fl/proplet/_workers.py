"""The threads that run modules, and what they share: runtime, data, limits."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from propeller_fl.config import PropletConfig
from propeller_fl.errors import ConfigError, ImageError
from propeller_fl.log import Trouble
from propeller_fl.proplet._contract import MAX_IMAGE_BYTES
from propeller_fl.proplet._data import DataSource
from propeller_fl.proplet._runtime import Invocation, Limits, WasmtimeRuntime
from propeller_fl.proplet._task import round_of
from propeller_fl.proplet._task_events import Run
from propeller_fl.proplet._update import Output, prepare_update
from propeller_fl.signing import TrustedKeys

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_RETRY_S: Final = 1.0


class Workers:
    """One pool for all proplets of a process. Use as a context manager, or call :meth:`close`.

    When the machine has no file descriptor, disk space or memory left, a task waits for some, at
    most as long as a module may run. ``cache_dir`` keeps compiled modules between processes; None
    keeps them in this one only. ``trusted_keys`` is the directory of those whose modules are run,
    where ``config.require_signature``.

    Raises ``ConfigError`` when a signature is required and there is no such directory named.
    """

    def __init__(
        self,
        config: PropletConfig,
        data: DataSource,
        *,
        cache_dir: Path | None = None,
        trusted_keys: Path | None = None,
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
        self._limits = Limits(
            fuel=config.fuel,
            wall_time_s=config.wall_time_s,
            memory_bytes=config.memory_bytes,
            output_bytes=config.output_bytes,
        )
        self._closing = threading.Event()
        self._executor = ThreadPoolExecutor(
            config.workers or os.cpu_count() or 1, thread_name_prefix="wasm-worker"
        )

    def run(self, proplet_id: str, run: Run) -> Future[Output]:
        """Run a task's module on the proplet's data, when its turn comes."""
        return self._executor.submit(self._patiently, lambda: self._run(proplet_id, run))

    def read(self, path: str) -> Future[bytes]:
        """Read an image from a local file."""
        return self._executor.submit(self._patiently, lambda: _read_image(Path(path)))

    def close(self) -> None:
        """Drop what has not begun, wait for what has; its limits bound that."""
        self._closing.set()
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

    def _patiently(self, job: Callable[[], _T]) -> _T:
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
                if self._closing.wait(_RETRY_S):
                    raise

    def _run(self, proplet_id: str, run: Run) -> Output:
        if self._trusted is not None:  # before anything reads the module
            self._trusted.require(run.image, run.start.image_signatures)
        module = self.runtime.compile(run.image)
        files: dict[str, bytes | Path] = {"data": self._data.data_of(proplet_id)}
        if run.model is not None:
            files["model"] = run.model if isinstance(run.model, bytes) else run.model.path
        ended = self.runtime.run(module, Invocation(run.start.env, files), self._limits)
        round_id = round_of(run.start)
        _log.info(
            "module ended after %.3f s with %d bytes of output",
            ended.duration_s,
            len(ended.stdout),
            extra={"round_id": round_id, "proplet_id": proplet_id, "task_id": run.start.id},
        )
        if not round_id:
            return Output(ended.stdout)
        return prepare_update(ended.stdout, round_id, proplet_id)


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
