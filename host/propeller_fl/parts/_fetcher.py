"""Fetches files in parts: over HTTP where that is set, and over MQTT what is missing after that."""

from __future__ import annotations

import hashlib
import logging
import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from propeller_fl.errors import LinkError, PropellerError, StoreError
from propeller_fl.link import Incoming, Link
from propeller_fl.log import Trouble
from propeller_fl.parts._fetch import Fetch
from propeller_fl.parts._http import HttpAccess, HttpTrouble, read_over_http
from propeller_fl.parts._part_file import PartFile
from propeller_fl.store import check_file
from propeller_fl.wire import Manifest, PartsWanted, Topics, part_sha256

_log = logging.getLogger(__name__)

_MAX_WAITING: Final = 32  # parts in memory; what is dropped is asked for again
_RETRY_DISK_S: Final = 1.0
_LONGEST_LULL_S: Final = 0.5


class Cancelled(PropellerError):
    """Nobody wants the file any more."""


class Fetcher:
    """Any number of fetches over one link, each on the thread that calls :meth:`fetch`.

    ``name`` says who asks. ``http_url`` is a model server's, or empty, and
    ``http_access`` what it wants to see. ``patience_s`` is how long
    no part may come before it is an error.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        name: str,
        window: int,
        *,
        http_url: str = "",
        http_access: HttpAccess | None = None,
        patience_s: float = math.inf,
    ) -> None:
        self._link = link
        self._topics = topics
        self._name = name
        self._window = window
        self._http_url = http_url
        self._http_access = http_access
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._running: list[tuple[Fetch, queue.Queue[tuple[str, bytes]]]] = []

    def fetch(
        self,
        manifest: Manifest,
        path: Path,
        cancelled: threading.Event,
        setting: str,
        what: str = "",
    ) -> None:
        """Return when the whole file is at ``path``, checked and synced.

        ``what`` it is, for the log; a model by default. What is there already is kept. A disk that
        is full is waited for. Raises :class:`Cancelled`, with the parts left for the next time;
        :class:`MessageError` when the file is not what the manifest says, and removes it then;
        :class:`LinkError` when the link is closed or nobody answers.
        """
        what = what or f"model {manifest.version}"
        trouble = Trouble()
        while True:
            try:
                return self._fetch(manifest, path, cancelled, setting, what)
            except StoreError as err:
                if trouble.is_news(str(err)):
                    _log.error("%s is not fetched, trying again: %s", what, err)
                if cancelled.wait(_RETRY_DISK_S):
                    raise Cancelled(f"{what} is not wanted any more") from None

    def _fetch(
        self, manifest: Manifest, path: Path, cancelled: threading.Event, setting: str, what: str
    ) -> None:
        with PartFile(path, manifest, setting) as file:
            if not file.open(cancelled):
                raise Cancelled(f"{what} is not wanted any more")
            fetch = Fetch(manifest, self._window, file.there())
            _log.info(
                "%s: %d of %d parts are missing, %d bytes in all",
                what,
                len(fetch.missing),
                len(manifest.parts),
                manifest.size_bytes,
            )
            self._over_http(fetch, manifest, file, cancelled)
            if not fetch.done:
                self._over_mqtt(fetch, file, cancelled)
            file.sync()
            try:
                check_file(path, manifest)
            except OSError as err:
                raise StoreError(f"{path} cannot be read: {err.strerror}") from err
            except BaseException:
                file.drop()
                raise

    def _over_http(
        self, fetch: Fetch, manifest: Manifest, file: PartFile, cancelled: threading.Event
    ) -> None:
        if not self._http_url or fetch.done:
            return
        try:
            for index, data in read_over_http(
                self._http_url, manifest, fetch.missing, self._http_access
            ):
                if cancelled.is_set():
                    raise Cancelled(f"model {manifest.version} is not wanted any more")
                if hashlib.sha256(data).hexdigest() == manifest.parts[index]:
                    for place in fetch.arrived(manifest.parts[index]):
                        file.write(place, data)
        except HttpTrouble as err:
            _log.warning("model %d: %s; the rest comes over MQTT", manifest.version, err)

    def _over_mqtt(self, fetch: Fetch, file: PartFile, cancelled: threading.Event) -> None:
        with self._hearing(fetch) as parts:
            heard_s = time.monotonic()
            while not fetch.done:
                if cancelled.is_set():
                    raise Cancelled("the file is not wanted any more")
                now_s = time.monotonic()
                if self._link.connected:
                    self._ask(fetch.ask(now_s))
                lull_s = min(max(0.0, fetch.due_in_s(now_s)), _LONGEST_LULL_S)
                try:
                    sha256, data = parts.get(timeout=lull_s)
                except queue.Empty:
                    if now_s - heard_s > self._patience_s:
                        raise LinkError(
                            f"no part has come for {self._patience_s:g} s, "
                            f"{len(fetch.missing)} are missing",
                            hint="is the model server running on this broker?",
                        ) from None
                    continue
                heard_s = now_s
                if hashlib.sha256(data).hexdigest() != sha256:
                    _log.warning("a part is dropped, and asked for again: not %s", sha256)
                    continue
                for index in fetch.arrived(sha256):
                    file.write(index, data)

    def _ask(self, parts: list[str]) -> None:
        if not parts:
            return
        wanted = PartsWanted(self._name, tuple(parts))
        try:
            self._link.publish(self._topics.parts_wanted, wanted.encode())
        except LinkError as err:
            _log.debug("not asked for %d parts: %s", len(parts), err)

    @contextmanager
    def _hearing(self, fetch: Fetch) -> Iterator[queue.Queue[tuple[str, bytes]]]:
        """The parts that this fetch wants, as they come."""
        mine: queue.Queue[tuple[str, bytes]] = queue.Queue(_MAX_WAITING)
        entry = fetch, mine
        with self._lock:
            self._running.append(entry)
            if len(self._running) == 1:
                self._link.subscribe(self._topics.any_part, self._take, qos=0)
        try:
            yield mine
        finally:
            with self._lock:
                self._running.remove(entry)
                if not self._running:
                    try:
                        self._link.unsubscribe(self._topics.any_part)
                    except LinkError as err:
                        _log.debug("%s", err)

    def _take(self, incoming: Incoming) -> None:
        """On the link's thread."""
        incoming.ack()
        sha256 = part_sha256(self._topics.relative(incoming.topic) or "")
        if sha256 is None:
            return
        with self._lock:
            for fetch, parts in self._running:
                if fetch.wants(sha256) and not parts.full():
                    parts.put_nowait((sha256, incoming.payload))
