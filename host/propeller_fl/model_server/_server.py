"""The shell around the models directory: what is published goes to disk, and from there out again.

A model is on disk before it is on its topic, and on its topic before the coordinator's message is
acknowledged. Whenever the link comes up, retained models arrive because we subscribe; those of ours
that did not, or are not ours, are published again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import queue
import threading
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from propeller_fl.config import LargeConfig, ModelServerConfig
from propeller_fl.errors import (
    ConfigError,
    DamagedStoreError,
    LinkError,
    MessageError,
    StoreError,
)
from propeller_fl.link import Delivery, Incoming, Link
from propeller_fl.log import Trouble
from propeller_fl.model_server._http import http_face
from propeller_fl.model_server._initial import initial_source, large_file
from propeller_fl.model_server._large import LargeModels
from propeller_fl.observe import ModelStored, Watcher, nobody
from propeller_fl.store import ModelsDir, StoredModel, model_fault, tensor_bytes
from propeller_fl.web import HttpGuard
from propeller_fl.wire import Manifest, Model, Reason, Topics, shapes_of

_log = logging.getLogger(__name__)

_QUIET_S: Final = 0.5  # no more retained models for so long: the broker has sent all it has
_RETRY_STORE_S: Final = 1.0
_RETRY_LINK_S: Final = 0.05
_LARGE: Final = LargeConfig()
_NO_GUARD: Final = HttpGuard()


class _LinkChange(Enum):
    UP = auto()
    DOWN = auto()


@dataclass(frozen=True, slots=True)
class _Offered:
    """A model to be kept and published."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class _Fetched:
    """The file of a large model is here, or never will be: ``error``."""

    manifest: Manifest
    payload: bytes
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _OnBroker:
    """A model that the broker has under this version."""

    version: int
    incoming: Incoming


class ModelServer:
    """Keeps what is published on ``fl/models/publish`` and serves it on its topic and over HTTP.

    ``link`` must not be started yet; ``start`` does that, once what it must not miss is subscribed.
    ``models`` must be open for writing. An HTTP client that keeps it waiting for ``patience_s``,
    with its request or with reading the answer, is hung up on. Raises :class:`ConfigError` when
    the HTTP port is taken.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: ModelServerConfig,
        models: ModelsDir,
        *,
        large: LargeConfig = _LARGE,
        patience_s: float = 10.0,
        guard: HttpGuard = _NO_GUARD,
        watch: Watcher = nobody,
    ) -> None:
        self._large_config = large
        self._large = LargeModels(link, topics, large, models)
        self._link = link
        self._topics = topics
        self._config = config
        self._models = models
        self._watch = watch
        self._inbox: queue.SimpleQueue[_Offered | _Fetched | _OnBroker | _LinkChange | None] = (
            queue.SimpleQueue()
        )
        self._lock = threading.Lock()
        self._in_hand: dict[bytes, list[Incoming]] = {}  # by payload
        self._broker_has: dict[int, str] = {}  # digest by version, since the link came up
        self._check_at_s: float | None = None
        self._trouble = Trouble()
        self._stopping = threading.Event()
        self._refused_sha256 = ""  # of the last offer that was refused
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
        what = "the model server would listen"
        guard.check_plain(config.http_host, "model_server", what, allow_plain=config.allow_plain)
        self._http = http_face(
            models,
            config.http_host,
            config.http_port,
            lambda: self._link.connected,
            patience_s,
            guard=guard,
            max_requests_per_s=config.max_requests_per_s,
        )

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the HTTP face."""
        return self._http.address

    @property
    def queued(self) -> int:
        """What waits to be handled. Any thread."""
        return self._inbox.qsize()

    @property
    def failure(self) -> Exception | None:
        """The error that ended a thread of its, if one has; it does not do its part any more."""
        return self._failure or self._http.failure

    def start(self) -> None:
        """Make version 0 if there is no model, then listen.

        Raises :class:`StoreError`; :class:`DamagedStoreError` when the latest model is none;
        :class:`ConfigError` when ``initial_model`` is unusable.
        """
        latest = self._models.latest()
        if latest is not None:
            self._read_whole(latest)
        else:
            self._make_first()
            _log.info("made model version 0: %s", self._config.initial_model)
        # The second matches the first's topic as well: what is offered may come twice.
        self._link.subscribe(self._topics.model_publish, self._take)
        self._link.subscribe(self._topics.any_model, self._take, qos=0)  # hundreds are retained
        self._link.on_up = lambda session_present: self._inbox.put(_LinkChange.UP)
        self._link.on_down = lambda error: self._inbox.put(_LinkChange.DOWN)
        self._large.start()
        self._http.start()
        self._thread.start()
        self._link.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish what is at hand and end. Link and directory are the caller's to close."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._large.stop()
        self._http.stop(timeout_s)

    def run(self) -> None:
        """``start``, then return when another thread calls ``stop``. Raises what ended it."""
        self.start()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _make_first(self) -> None:
        wanted, above_bytes = self._config.initial_model, self._large_config.above_bytes
        source = large_file(wanted, above_bytes) or initial_source(wanted)
        if isinstance(source, Model) and tensor_bytes(shapes_of(source.tensors)) <= above_bytes:
            document = Model(source.tensors, 0).encode(self._config.initial_format)
            source = document if len(document) <= above_bytes else source
        if isinstance(source, bytes):
            self._models.put(0, source)
            return
        try:
            self._large.make(source)
        except MessageError as err:
            raise ConfigError(
                f"model_server.initial_model {wanted[:200]!r} cannot be used: {err}"
            ) from err

    # --- on the link's thread

    def _take(self, incoming: Incoming) -> None:
        if incoming.topic == self._topics.model_publish:
            self._take_offer(incoming)
            return
        version = self._topics.parse_model(incoming.topic)
        if version is None:
            incoming.ack()  # nothing of ours
        else:
            self._inbox.put(_OnBroker(version, incoming))

    def _take_offer(self, incoming: Incoming) -> None:
        with self._lock:
            held = self._in_hand.get(incoming.payload)
            if held is not None:  # sent again while a disk is full, say: one copy is enough
                incoming.payload = held[0].payload
                held.append(incoming)
                return
            self._in_hand[incoming.payload] = [incoming]
        self._inbox.put(_Offered(incoming.payload))

    # --- the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
        except Exception as err:
            _log.critical("the model server has stopped", exc_info=True)
            self._failure = err

    def _turn(self) -> None:
        patience_s = None
        if self._check_at_s is not None:
            patience_s = max(0.0, self._check_at_s - time.monotonic())
        try:
            item = self._inbox.get(timeout=patience_s)
        except queue.Empty:
            self._check_at_s = None
            self._restore()
            return
        match item:
            case _Offered(payload):
                self._keep(payload)
            case _Fetched() as fetched:
                self._keep_large(fetched)
            case _OnBroker(version, incoming):
                self._broker_has[version] = hashlib.sha256(incoming.payload).hexdigest()
                incoming.ack()
                if self._check_at_s is not None:
                    self._check_at_s = time.monotonic() + _QUIET_S
            case _LinkChange.UP:
                self._check_at_s = time.monotonic() + _QUIET_S
            case _LinkChange.DOWN:
                self._check_at_s = None
                self._broker_has.clear()

    def _keep(self, payload: bytes) -> None:
        """Store one model, publish it, and only then let the broker forget the offer."""
        try:
            manifest = Manifest.decode(payload)
            version = _version_of(payload) if manifest is None else manifest.version
        except MessageError as err:
            self._refuse(payload, str(err))
            return
        sha256 = hashlib.sha256(payload).hexdigest()
        while True:
            try:
                found = self._models.find(version)
                if found is not None and found.sha256 != sha256:
                    self._refuse(payload, f"version {version} exists with other bytes")
                    return
                if manifest is None:
                    self._models.put(version, payload)
                elif found is None:
                    self._fetch(manifest, payload)
                    return
            except StoreError as err:
                if self._trouble.is_news(str(err)):
                    _log.error("model %d not stored, trying again: %s", version, err)
                if self._stopping.wait(_RETRY_STORE_S):
                    return
            else:
                break
        self._trouble.is_over()
        if found is None:
            _log.info("model %d stored, %d bytes, sha256 %s", version, len(payload), sha256)
            self._watch(ModelStored(version, len(payload)))
        delivery = self._publish(version, payload)
        if delivery is not None:
            delivery.add_done_callback(functools.partial(self._published, payload))

    def _fetch(self, manifest: Manifest, payload: bytes) -> None:
        self._large.fetch(
            manifest, lambda error: self._inbox.put(_Fetched(manifest, payload, error))
        )

    def _keep_large(self, fetched: _Fetched) -> None:
        """As ``_keep``, with a file that has come in parts."""
        version, payload = fetched.manifest.version, fetched.payload
        if isinstance(fetched.error, MessageError):
            self._refuse(payload, str(fetched.error))
            return
        if fetched.error is not None:
            if self._stopping.is_set():
                return  # the broker still has the offer
            raise fetched.error
        while True:
            try:
                self._large.keep(fetched.manifest, payload)
            except StoreError as err:
                if self._trouble.is_news(str(err)):
                    _log.error("model %d not stored, trying again: %s", version, err)
                if self._stopping.wait(_RETRY_STORE_S):
                    return
            else:
                break
        self._trouble.is_over()
        _log.info("model %d stored, %d bytes in parts", version, fetched.manifest.size_bytes)
        self._watch(ModelStored(version, fetched.manifest.size_bytes))
        delivery = self._publish(version, payload)
        if delivery is not None:
            delivery.add_done_callback(functools.partial(self._published, payload))

    def _restore(self) -> None:
        """Publish what the broker does not have, the latest first."""
        try:
            missing = [
                model
                for model in self._models.versions()
                if self._broker_has.get(model.version) != model.sha256
            ]
            damaged = 0
            for model in reversed(missing):
                try:
                    payload = self._read_whole(model)
                except DamagedStoreError as err:
                    _log.error("not published: %s", err)
                    damaged += 1
                    continue
                if model.version in self._broker_has:
                    _log.warning("the broker has other bytes as model %d", model.version)
                self._publish(model.version, payload)
                if self._stopping.is_set():
                    return
        except StoreError as err:
            if self._trouble.is_news(str(err)):
                _log.error("models not restored, trying again: %s", err)
            self._check_at_s = time.monotonic() + _RETRY_STORE_S
        else:
            self._trouble.is_over()
            if len(missing) > damaged:
                count = len(missing) - damaged
                _log.info("published %d models that the broker did not have", count)

    def _read_whole(self, model: StoredModel) -> bytes:
        """Its bytes, if they are a model of that version: what is retained is everybody's."""
        data = self._models.read(model.version)
        fault = model_fault(data, model.version)
        if fault:
            raise DamagedStoreError(
                f"model {model.version} in {self._models.directory} is damaged: {fault}",
                hint="restore it (`propeller-fl model get` has what the broker has), or remove it",
            )
        return data

    def _publish(self, version: int, payload: bytes) -> Delivery | None:
        """Hand over to the link, however long it has no room; ``None`` when told to stop first."""
        while True:
            try:
                return self._link.publish(self._topics.model(version), payload, retain=True)
            except MessageError as err:
                _log.error("model %d cannot be published: %s", version, err)
                self._settle(payload)
                return None
            except LinkError as err:
                _log.debug("model %d waits: %s", version, err)
                if self._stopping.wait(_RETRY_LINK_S):
                    return None

    def _published(self, payload: bytes, delivery: Delivery) -> None:
        if delivery.error is None:  # else the link was closed: the broker still has the offer
            self._settle(payload)

    def _refuse(self, payload: bytes, why: str) -> None:
        """Say it once, though an offer may come twice."""
        sha256 = hashlib.sha256(payload).hexdigest()
        if sha256 != self._refused_sha256:
            _log.error("model refused: %s", why)
        self._refused_sha256 = sha256
        self._settle(payload)

    def _settle(self, payload: bytes) -> None:
        with self._lock:
            held = self._in_hand.pop(payload, [])
        for incoming in held:
            incoming.ack()


def _version_of(payload: bytes) -> int:
    model = Model.decode(payload)
    if model.version is None:
        raise MessageError(
            Reason.MISSING_FIELD,
            "the model has no version",
            field="version",
            hint='beside its tensors: {"w": …, "b": …, "version": 1}',
        )
    return model.version
