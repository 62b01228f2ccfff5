"""The threads around the files: fetches, models made of them, and their parts served."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl.config import LargeConfig
from propeller_fl.coordinator._collecting import FETCHES, Collecting, Job, Key
from propeller_fl.coordinator._large_rounds import model_of_files
from propeller_fl.coordinator._outgoing import (
    Collect,
    Discard,
    DropModel,
    FileWork,
    MakeModel,
    ServeModel,
)
from propeller_fl.errors import LinkError, MessageError, StoreError
from propeller_fl.link import Link
from propeller_fl.log import Trouble
from propeller_fl.parts import Cancelled, Fetcher, PartPlace, PartsServer, places_of
from propeller_fl.rounds import Round
from propeller_fl.store import UpdateFileRows, UpdateFiles, check_finite
from propeller_fl.wire import Manifest, Reason, Topics

_log = logging.getLogger(__name__)

# Without a part, until another fetch gets its turn. A fetch asks ever less often and begins anew
# after this, so a proplet that has come back is asked soon.
_PATIENCE_S: Final = 10.0
_RETRY_DISK_S: Final = 1.0
_SETTING: Final = "data_dir"


@dataclass(frozen=True, slots=True)
class FileEnded:
    """The file of an update is here; or it is not what it should be, for ``reason``."""

    round_id: str
    proplet_id: str
    sha256: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ModelEnded:
    """The model of a round is a file, whose manifest has no version yet; or there is none."""

    round_id: str
    manifest: Manifest | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _FetchEnded:
    job: Job
    reason: str = ""
    detail: str = ""
    again: bool = False


class FileKeeper:
    """Keeps the files under ``directory``. All calls from one thread; ``wake`` is called from
    others when there is something to ``take``."""

    def __init__(
        self,
        link: Link,
        topics: Topics,
        large: LargeConfig,
        directory: Path,
        wake: Callable[[], None],
    ) -> None:
        self._large = large
        self._files = UpdateFiles(directory)
        self._wake = wake
        self._collecting = Collecting(large.max_updates_bytes)
        self._cancels: dict[Key, threading.Event] = {}
        self._making: set[str] = set()
        self._unwanted: set[str] = set()  # … of rounds that were stopped meanwhile
        self._to_remove: list[Discard] = []
        self._places: dict[str, PartPlace] = {}
        self._served: dict[str, Manifest] = {}  # by round
        self._ended: queue.SimpleQueue[_FetchEnded | ModelEnded] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._fetcher = Fetcher(
            link, topics, link.client_id[:64], large.window_parts, patience_s=_PATIENCE_S
        )
        self._server = PartsServer(link, topics, self._places.get)
        self._fetches = ThreadPoolExecutor(FETCHES, thread_name_prefix="update-fetch")
        self._makers = ThreadPoolExecutor(1, thread_name_prefix="model-maker")

    def start(self, rows: UpdateFileRows, open_rounds: Sequence[str]) -> None:
        """Take up what is there. Raises :class:`StoreError`."""
        leftovers = self._files.remove_leftovers(rows, open_rounds)
        if leftovers:
            _log.info("removed %d files of rounds that have ended", leftovers)
        for round_id in open_rounds:
            for proplet_id, size_bytes in self._files.sizes(round_id):
                self._collecting.holds((round_id, proplet_id), size_bytes)
        self._server.start()

    def stop(self) -> None:
        """What has come of a file is kept for the next time."""
        self._closing.set()
        for cancelled in self._cancels.values():
            cancelled.set()
        self._server.stop()
        self._fetches.shutdown(wait=True, cancel_futures=True)
        self._makers.shutdown(wait=True, cancel_futures=True)

    def do(self, work: FileWork) -> None:
        """Begin it; again is harmless."""
        match work:
            case Collect(update, sha256):
                if self._collecting.want(Job(update, sha256)):
                    self._cancels[update.round_id, update.proplet_id].set()
            case Discard(round_id, proplet_id):
                for key in self._collecting.discard(round_id, proplet_id):
                    self._cancels[key].set()
                self._to_remove.append(work)
            case MakeModel(round_) if round_.opening.start.round_id not in self._making:
                self._making.add(round_.opening.start.round_id)
                self._makers.submit(self._make, round_)
            case ServeModel(round_id, manifest):
                self._served[round_id] = manifest
                self._places.update(places_of(manifest, self._files.model(round_id)))
            case DropModel(round_id) if round_id in self._making:
                self._unwanted.add(round_id)  # it goes when its maker has ended
            case DropModel(round_id):
                self._drop_model(round_id)
        self._go_on()

    def take(self) -> list[FileEnded | ModelEnded]:
        """What has ended since the last time."""
        found: list[FileEnded | ModelEnded] = []
        while True:
            try:
                ended = self._ended.get_nowait()
            except queue.Empty:
                break
            if isinstance(ended, ModelEnded):
                self._made_ended(ended.round_id)
                found.append(ended)
                continue
            self._cancels.pop(ended.job.key, None)
            if self._collecting.ended(ended.job, again=ended.again) and not ended.again:
                sha256 = ended.job.sha256
                found.append(FileEnded(*ended.job.key, sha256, ended.reason, ended.detail))
        self._go_on()
        return found

    def _made_ended(self, round_id: str) -> None:
        self._making.discard(round_id)
        if round_id in self._unwanted:
            self._unwanted.discard(round_id)
            self._drop_model(round_id)

    def _go_on(self) -> None:
        """Remove what is not in use any more, and begin what there is room for."""
        waiting, self._to_remove = self._to_remove, []
        for discard in waiting:
            round_id, proplet_id = discard.round_id, discard.proplet_id
            if round_id in self._making or self._collecting.is_running(round_id, proplet_id):
                self._to_remove.append(discard)
            else:
                self._remove(discard)
        while not self._closing.is_set() and (job := self._collecting.next()) is not None:
            cancelled = self._cancels[job.key] = threading.Event()
            self._fetches.submit(self._fetch, job, cancelled)

    def _remove(self, discard: Discard) -> None:
        try:
            if not discard.proplet_id:
                self._files.remove_round(discard.round_id)
            elif not self._collecting.is_held(discard.round_id, discard.proplet_id):
                self._files.remove(discard.round_id, discard.proplet_id)
        except StoreError as err:
            _log.warning("%s; it goes with the next start", err)

    def _drop_model(self, round_id: str) -> None:
        gone = self._served.pop(round_id, None)
        if gone is not None:
            for sha256 in gone.parts:
                self._places.pop(sha256, None)
            for other, manifest in self._served.items():  # the same part may be in several
                self._places.update(places_of(manifest, self._files.model(other)))
        try:
            self._files.remove_model(round_id)
        except StoreError as err:
            _log.warning("%s; it goes with the next start", err)

    # --- on threads of their own

    def _fetch(self, job: Job, cancelled: threading.Event) -> None:
        self._ended.put(self._fetched(job, cancelled))
        self._wake()

    def _fetched(self, job: Job, cancelled: threading.Event) -> _FetchEnded:
        manifest, (round_id, proplet_id) = job.update.file, job.key
        part = self._files.part(round_id, proplet_id)
        whole = self._files.update(round_id, proplet_id)
        try:
            if whole.exists():  # we were killed before it was said
                whole.replace(part)
            what = f"update of {proplet_id} in round {round_id}"
            self._fetcher.fetch(manifest, part, cancelled, _SETTING, what)
            check_finite(part)
            self._files.finish(part)
        except Cancelled:
            return _FetchEnded(job, again=True)
        except MessageError as err:
            reason = Reason(err.reason) if err.reason in list(Reason) else Reason.UNDECODABLE
            return _FetchEnded(job, reason, str(err))
        except LinkError as err:
            extra = {"round_id": round_id, "proplet_id": proplet_id}
            _log.info("the file of an update is tried again: %s", err.args[0], extra=extra)
            return _FetchEnded(job, again=True)
        except (StoreError, OSError) as err:
            _log.warning("%s", err, extra={"round_id": round_id, "proplet_id": proplet_id})
            return _FetchEnded(job, again=True)
        except Exception as err:
            _log.exception("a fetch failed", extra={"round_id": round_id, "proplet_id": proplet_id})
            return _FetchEnded(job, Reason.UNDECODABLE, f"it could not be fetched: {err!r}")
        _log.info(
            "the file of an update is here, %d bytes",
            manifest.size_bytes,
            extra={"round_id": round_id, "proplet_id": proplet_id},
        )
        return _FetchEnded(job)

    def _make(self, round_: Round) -> None:
        ended = self._made(round_)
        if ended is not None:
            self._ended.put(ended)
            self._wake()

    def _made(self, round_: Round) -> ModelEnded | None:
        round_id = round_.opening.start.round_id
        trouble = Trouble()
        while not self._closing.is_set() and round_id not in self._unwanted:
            try:
                path, manifest = model_of_files(round_, self._files, self._large.part_bytes)
                self._files.finish(path)
                return ModelEnded(round_id, manifest)
            except ValueError as err:
                return ModelEnded(round_id, None, str(err))
            except (StoreError, OSError) as err:
                if trouble.is_news(str(err)):
                    extra = {"round_id": round_id}
                    _log.error("the model is not made, trying again: %s", err, extra=extra)
                self._closing.wait(_RETRY_DISK_S)
            except Exception as err:
                _log.exception("the model cannot be made", extra={"round_id": round_id})
                return ModelEnded(round_id, None, f"the model cannot be made: {err!r}")
        return None if self._closing.is_set() else ModelEnded(round_id, None, "it is not wanted")
