"""The model server and large models: their parts fetched, kept, and published when asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from propeller_fl import disk
from propeller_fl.config import LargeConfig
from propeller_fl.errors import MessageError, StoreError
from propeller_fl.link import Link
from propeller_fl.parts import Fetcher, PartPlace, PartsServer, places_of
from propeller_fl.store import (
    ModelsDir,
    check_finite,
    copy_durably,
    manifest_of_file,
    write_large,
)
from propeller_fl.wire import Manifest, Model, Reason, Topics

_log = logging.getLogger(__name__)

_FETCHES: Final = 4  # at once
_SETTING: Final = "model_server.models_dir"


class LargeModels:
    """Those of one directory. Any thread."""

    def __init__(self, link: Link, topics: Topics, config: LargeConfig, models: ModelsDir) -> None:
        self._config = config
        self._models = models
        self._places: dict[str, PartPlace] = {}
        self._closing = threading.Event()
        self._fetcher = Fetcher(link, topics, "model-server", config.window_parts)
        self._server = PartsServer(link, topics, self._places.get)
        self._executor = ThreadPoolExecutor(_FETCHES, thread_name_prefix="model-fetch")

    def start(self) -> None:
        """Publish from now on what is asked for. Raises :class:`StoreError`."""
        for model in self._models.versions():
            path = self._models.content(model.version)
            if path is not None:
                self._offer(model.version, path)
        self._server.start()

    def stop(self) -> None:
        self._closing.set()
        self._server.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def fetch(self, manifest: Manifest, then: Callable[[BaseException | None], None]) -> None:
        """Put the file together, on another thread, which calls ``then``: with nothing, or with
        :class:`MessageError` when it is no model, or with what else went wrong."""

        def ended(future: Future[None]) -> None:
            if not future.cancelled():
                then(future.exception())

        self._executor.submit(self._fetch, manifest).add_done_callback(ended)

    def keep(self, manifest: Manifest, document: bytes) -> None:
        """Make what was fetched the model of its version. Raises :class:`StoreError`."""
        content = self._models.fetching(manifest.sha256)
        self._models.put_large(manifest, document, content)
        path = self._models.content(manifest.version)
        assert path is not None  # as it was put there
        self._places.update(places_of(manifest, path))

    def make(self, source: Path | Model) -> None:
        """Make version 0 of a file or of a model in memory. Raises :class:`MessageError`,
        :class:`StoreError`."""
        temporary = self._models.fetching("initial")
        try:
            if isinstance(source, Model):
                write_large(source, temporary)
            else:
                copy_durably(source, temporary)
            manifest = manifest_of_file(temporary, 0, self._config.part_bytes)
            self._check_size(manifest)
        except OSError as err:
            raise StoreError(
                f"{temporary} cannot be written: {err.strerror}", hint=disk.remedy(err, _SETTING)
            ) from err
        self._models.put_large(manifest, manifest.encode(), temporary)

    def _fetch(self, manifest: Manifest) -> None:
        self._check_size(manifest)
        path = self._models.fetching(manifest.sha256)
        self._fetcher.fetch(manifest, path, self._closing, _SETTING)
        try:
            check_finite(path)
        except MessageError:
            path.unlink(missing_ok=True)
            raise

    def _check_size(self, manifest: Manifest) -> None:
        if manifest.size_bytes > self._config.max_model_bytes:
            raise MessageError(
                Reason.TOO_LARGE,
                f"the model has {manifest.size_bytes} bytes, at most "
                f"{self._config.max_model_bytes} are taken",
                hint="large.max_model_bytes says so",
            )

    def _offer(self, version: int, path: Path) -> None:
        try:
            manifest = Manifest.decode(self._models.read(version))
        except MessageError as err:
            _log.error("model %d is not offered: its manifest is damaged: %s", version, err)
            return
        if manifest is not None:
            self._places.update(places_of(manifest, path))
