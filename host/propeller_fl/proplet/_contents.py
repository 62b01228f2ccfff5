"""Large models on a proplet's host: fetched once for all proplets, kept as files by digest."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from propeller_fl import disk
from propeller_fl.config import LargeConfig
from propeller_fl.errors import LinkError, MessageError, StoreError
from propeller_fl.link import Link, LinkLoop
from propeller_fl.parts import Cancelled, Fetcher, HttpAccess
from propeller_fl.proplet._files import SteadyPath
from propeller_fl.wire import Manifest, Reason, Topics

_log = logging.getLogger(__name__)

_FETCHES: Final = 2  # at once
_KEPT: Final = 2  # files beside those that are in use
_SETTING: Final = "data_dir"


class Content:
    """A file that is there for as long as somebody holds this."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, path: Path) -> None:
        self.path = SteadyPath(path)


@dataclass(slots=True)
class _Fetch:
    """Who waits for a file."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    waiting: dict[Hashable, Callable[[Content | BaseException], None]] = field(default_factory=dict)


class Contents:
    """The files in ``directory``; None: in one that is removed at the end. ``name`` is under which
    we ask for parts.

    On the link loop's thread only, but for ``close``.
    """

    def __init__(
        self,
        link: Link,
        loop: LinkLoop,
        topics: Topics,
        config: LargeConfig,
        directory: Path | None,
        models_url: str,
        *,
        name: str,
        http_access: HttpAccess | None = None,
    ) -> None:
        self._loop = loop
        self._config = config
        self._own = None if directory else tempfile.TemporaryDirectory(prefix="propeller-models-")
        self._directory = directory or Path(self._own.name if self._own else "")
        self._fetcher = Fetcher(
            link,
            topics,
            name,
            config.window_parts,
            http_url=models_url,
            http_access=http_access,
        )
        self._fetches: dict[str, _Fetch] = {}  # by digest
        self._held: weakref.WeakValueDictionary[str, Content] = weakref.WeakValueDictionary()
        self._executor = ThreadPoolExecutor(_FETCHES, thread_name_prefix="model-fetch")

    def fetch(
        self,
        manifest: Manifest,
        who: Hashable,
        then: Callable[[Content | BaseException], None],
    ) -> None:
        """Call ``then``, perhaps at once, with the file, or with why there is none.

        It is not called after ``forget(who)``, which ends the fetch if nobody else waits for it.
        """
        if manifest.size_bytes > self._config.max_model_bytes:
            then(
                MessageError(
                    Reason.TOO_LARGE,
                    f"the model has {manifest.size_bytes} bytes, at most "
                    f"{self._config.max_model_bytes} are taken here",
                    hint="large.max_model_bytes says so",
                )
            )
            return
        held = self._held.get(manifest.sha256)
        if held is not None:
            then(held)
            return
        known = self._fetches.get(manifest.sha256)
        if known is None or known.cancelled.is_set():
            known = self._fetches[manifest.sha256] = _Fetch()
            self._make_room()
            future = self._executor.submit(self._fetch, manifest, known.cancelled)
            future.add_done_callback(lambda future: self._ended(manifest.sha256, known, future))
        known.waiting[who] = then

    def forget(self, who: Hashable) -> None:
        """``who`` waits no more."""
        for fetch in self._fetches.values():
            if fetch.waiting.pop(who, None) is not None and not fetch.waiting:
                fetch.cancelled.set()

    def close(self) -> None:
        """End what is under way; its parts are kept for the next time."""
        for fetch in list(self._fetches.values()):
            fetch.cancelled.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._own is not None:
            self._own.cleanup()

    def _fetch(self, manifest: Manifest, cancelled: threading.Event) -> Path:
        """On a thread of its own. The name of a file says that it is whole and right."""
        path = self._directory / f"{manifest.sha256}.safetensors"
        part = path.with_suffix(".part")
        try:
            if not path.exists():
                self._fetcher.fetch(manifest, part, cancelled, _SETTING)
                part.rename(path)
            os.utime(path)
        except OSError as err:
            raise StoreError(
                f"{path} cannot be written: {err.strerror}", hint=disk.remedy(err, _SETTING)
            ) from err
        return path

    def _ended(self, sha256: str, fetch: _Fetch, future: Future[Path]) -> None:
        try:
            self._loop.call_soon(lambda: self._tell(sha256, fetch, future))
        except LinkError:
            _log.debug("a fetch ended after the link loop was stopped")

    def _tell(self, sha256: str, fetch: _Fetch, future: Future[Path]) -> None:
        if self._fetches.get(sha256) is fetch:
            del self._fetches[sha256]
        if future.cancelled():
            return
        error = future.exception()
        outcome: Content | BaseException
        if error is None:
            outcome = self._held.setdefault(sha256, Content(future.result()))
        else:
            outcome = error
            if not isinstance(error, Cancelled):
                _log.error("a model could not be fetched: %s", error)
        for then in list(fetch.waiting.values()):
            then(outcome)

    def _make_room(self) -> None:
        """Remove the files that were not used for longest, but for the newest few."""
        try:
            spare = [
                path
                for pattern in ("*.safetensors", "*.part")
                for path in self._directory.glob(pattern)
                if path.stem not in self._held and path.stem not in self._fetches
            ]
            spare.sort(key=lambda path: path.stat().st_mtime)
            for path in spare[: -_KEPT or None]:
                path.unlink(missing_ok=True)
        except OSError as err:
            _log.warning("old models are not removed: %s", err)
