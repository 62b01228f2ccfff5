"""Reads the updates of a batch, with the models that some of them are differences to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator._bases import Bases
from propeller_fl.coordinator._reading import ReadOffer, ReadUpdate, UnreadableUpdate, read_update
from propeller_fl.errors import MessageError
from propeller_fl.link import Incoming
from propeller_fl.rounds import Round
from propeller_fl.store import RoundStore
from propeller_fl.wire import (
    SENDER_PROPERTY,
    Reason,
    Tensors,
    Update,
    UpdateLayouts,
    shapes_of,
)

Read = ReadUpdate | ReadOffer | UnreadableUpdate


class UpdateReader:
    """``find`` gives an open round. One thread."""

    def __init__(
        self, config: CoordinatorConfig, store: RoundStore, find: Callable[[str], Round | None]
    ) -> None:
        self._max_bytes = config.max_update_bytes
        self._find = find
        self._bases = Bases(store)
        self._layouts = UpdateLayouts()

    def read(self, messages: Sequence[Incoming]) -> list[tuple[Read, str]]:
        """Each with the SHA-256 of its document. All digests come first, then all else: a processor
        that does one thing again and again takes half of the time for it."""
        digests = [hashlib.sha256(incoming.payload).hexdigest() for incoming in messages]
        return [
            (self._read(incoming, sha256), sha256)
            for incoming, sha256 in zip(messages, digests, strict=True)
        ]

    def forget_models(self) -> None:
        """A model in the store may have changed."""
        self._bases.forget()

    def _read(self, incoming: Incoming, sha256: str) -> Read:
        sender = incoming.properties.get(SENDER_PROPERTY, "")
        payload, max_bytes = incoming.payload, self._max_bytes
        return read_update(payload, sha256, max_bytes, self._base_of, sender, self._layouts)

    def _base_of(self, update: Update) -> Tensors | None:
        """The model that ``update`` was trained from, as the store has it, or ``None`` where the
        rules refuse the update for its round, its base model or its shapes."""
        round_ = self._find(update.round_id)
        if (
            round_ is None
            or round_.opening.in_parts
            or update.base_model_uri != round_.opening.start.model_uri
            or update.shapes != round_.opening.base_shapes
        ):
            return None
        base = self._bases.find(update.base_model_uri)
        if base is None or shapes_of(base) != update.shapes:
            raise MessageError(
                Reason.STALE_BASE_MODEL,
                f"{update.base_model_uri} has become another model since the round was opened",
            )
        return base
