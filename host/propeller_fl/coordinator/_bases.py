"""The models that updates are differences to."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from propeller_fl.store import RoundStore
from propeller_fl.wire import Model, Tensors

MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Of float32 arrays at hand at once; the newest model is, however large it is."""


class Bases:
    """Models of the store, decoded, the last used ones kept at hand.

    The store is what counts: another process that starts on it finds the same.
    """

    def __init__(self, store: RoundStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, Tensors] = OrderedDict()

    def find(self, uri: str) -> Tensors | None:
        """The arrays of the model on this topic (no prefix), read-only; ``None`` without one."""
        found = self._kept.get(uri)
        if found is None:
            body = self._store.model(uri)
            if body is None:
                return None
            found = self._kept[uri] = Model.decode(body).tensors
        self._kept.move_to_end(uri)
        while len(self._kept) > 1 and self._kept_bytes() > MAX_KEPT_BYTES:
            self._kept.popitem(last=False)
        return found

    def forget(self) -> None:
        """A model in the store may have changed."""
        self._kept.clear()

    def _kept_bytes(self) -> int:
        return sum(array.nbytes for model in self._kept.values() for array in model.values())
