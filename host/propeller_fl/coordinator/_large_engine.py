"""The part of the engine that is about files: rows within its transactions, and work handed out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator._aggregation import MadeModel
from propeller_fl.coordinator._outgoing import (
    Collect,
    Discard,
    DropModel,
    FileWork,
    MakeModel,
    ServeModel,
)
from propeller_fl.coordinator._reading import ReadOffer
from propeller_fl.coordinator._voice import Voice
from propeller_fl.rounds import Event, FileArrived, FileRefused, Opening, Round, UpdateFacts
from propeller_fl.store import NewUpdate, RoundStore
from propeller_fl.wire import Manifest, Mode, UpdateManifest, model_uri, model_version


def is_of_files(opening: Opening) -> bool:
    """Whether the updates of this round are files, and so is its model."""
    return opening.in_parts and opening.start.mode is Mode.TRAIN


class LargeWork:
    """What has ended is kept here until the transaction that takes it is durable. What is to be
    done after a restart is in the store, and is handed out once."""

    def __init__(self, config: CoordinatorConfig, store: RoundStore, voice: Voice) -> None:
        self._config = config
        self._store = store
        self._voice = voice
        self._resumed: list[FileWork] = []
        self._ended: list[tuple[str, Event]] = []  # files
        self._taken = 0  # … of which the transaction at hand has taken the first
        self._models: dict[str, tuple[Manifest | None, str]] = {}  # by round
        self._asked: set[str] = set()  # rounds whose model is being made

    # --- what has ended

    def file_ended(
        self, round_id: str, proplet_id: str, sha256: str, reason: str, detail: str
    ) -> None:
        """See :meth:`Engine.file_ended`."""
        event: Event = FileArrived(proplet_id, sha256)
        if reason:
            event = FileRefused(proplet_id, sha256, reason, detail)
        self._ended.append((round_id, event))

    def model_ended(self, round_id: str, manifest: Manifest | None, detail: str) -> None:
        """See :meth:`Engine.model_ended`."""
        self._models[round_id] = manifest, detail

    def events(self) -> Iterator[tuple[str, Event]]:
        """What has ended, by round."""
        yield from self._ended
        self._taken = len(self._ended)

    def done(self) -> None:
        """The transaction is durable."""
        del self._ended[: self._taken]
        self._taken = 0

    def undone(self) -> None:
        """It was undone; what it handed out was not said."""
        self._taken = 0
        self._asked.clear()

    # --- after a restart

    def resume(self, open_rounds: Iterable[Round]) -> None:
        """What the store says is to be done, but for models, which are asked for anyway."""
        for round_ in open_rounds:
            for update in round_.offered.values():
                self._resumed.append(self._collect(update))
        for model in self._store.files.models():
            self._resumed.append(ServeModel(model.round_id, model.manifest))

    def take_resumed(self) -> list[FileWork]:
        resumed, self._resumed = self._resumed, []
        return resumed

    # --- within a transaction

    def fetch(self, update: UpdateFacts, read: ReadOffer | None) -> None:
        """An offer is taken; without ``read`` it was before the restart."""
        if read is None:
            return
        self._store.files.offer(update, read.document)
        self._voice.have_done(self._collect(update))

    def drop(self, round_id: str, proplet_id: str) -> None:
        """An offer is refused."""
        self._store.files.drop(round_id, proplet_id)
        self._voice.have_done(Discard(round_id, proplet_id))

    def keep(self, update: UpdateFacts, now_s: float) -> None:
        """Its file is here, and it counts."""
        self._store.files.set_whole(update.round_id, update.proplet_id)
        metrics = self._document_of(update).metrics
        self._store.keep_updates([NewUpdate(update, metrics, np.zeros(0, np.float32))], now_s)

    def published(self, uri: str, body: bytes) -> None:
        """The model server has this model, of which it had the file from us, if it is one of
        ours."""
        round_id = self._store.files.drop_model(uri, body)
        if round_id is not None:
            self._voice.have_done(DropModel(round_id))

    def is_ready(self, round_: Round) -> bool:
        """Whether its model can be had now. If it is to be made of files, it is asked for."""
        round_id = round_.opening.start.round_id
        if not is_of_files(round_.opening) or round_id in self._models:
            return True
        if round_id not in self._asked:
            self._asked.add(round_id)
            self._voice.have_done(MakeModel(round_))
        return False

    def made(self, round_: Round) -> MadeModel:
        """The model that was made of the round's files, with its version.

        Raises :class:`ValueError` when there is none, or no message takes its manifest.
        """
        manifest, detail = self._models[round_.opening.start.round_id]
        if manifest is None:
            raise ValueError(detail)
        version = self._store.next_version()
        uri = model_uri(version)
        if model_version(uri) != version:
            raise ValueError(f"there is no version after {version - 1}")
        body = replace(manifest, version=version).encode()
        if len(body) > self._config.max_model_bytes:
            raise ValueError(
                f"the manifest of the new model has {len(body)} bytes, at most "
                f"{self._config.max_model_bytes} are published; try a larger large.part_bytes"
            )
        return MadeModel(version, uri, body)

    def close(self, round_id: str, made: MadeModel | None) -> None:
        """It has ended: its files go, and the model server is to get the new model."""
        self._store.files.drop_round(round_id)
        self._voice.have_done(Discard(round_id))
        if made is None:  # one may be made at this moment, of a round that is stopped
            self._voice.have_done(DropModel(round_id))
        else:
            self._store.files.put_model(made.uri, round_id, made.body)
            manifest = Manifest.decode(made.body)
            assert manifest is not None  # as it was made
            self._voice.have_done(ServeModel(round_id, manifest))

    def _collect(self, update: UpdateFacts) -> Collect:
        return Collect(self._document_of(update), update.sha256)

    def _document_of(self, update: UpdateFacts) -> UpdateManifest:
        return self._store.files.of(update.round_id, update.proplet_id)
