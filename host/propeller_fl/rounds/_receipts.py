"""The accepted updates of a round, as a value that costs the same to extend however long it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from propeller_fl.rounds._events import Receipt


class Receipts(Mapping[str, Receipt]):
    """Receipts by proplet, in the order of acceptance. It never changes: :meth:`plus` makes
    another.

    A receipt's place is kept with it, and values that grew from one another share one dict, of
    which each sees the first so many. So a round of n updates takes n steps and not n², and whoever
    goes back to an older value (a transaction has failed) still has just what was in it. One
    thread.
    """

    __slots__ = ("_placed", "_size")

    def __init__(self, receipts: Mapping[str, Receipt]) -> None:
        self._placed = {
            name: (place, receipt) for place, (name, receipt) in enumerate(receipts.items())
        }
        self._size = len(self._placed)

    def plus(self, name: str, receipt: Receipt) -> Receipts:
        """These and one more, of a proplet that has none among them."""
        grown: Receipts = object.__new__(Receipts)
        if len(self._placed) == self._size:
            grown._placed = self._placed
        else:  # another value has grown from this one, and is not to be seen in what grows now
            grown._placed = dict(islice(self._placed.items(), self._size))
        grown._placed[name] = self._size, receipt
        grown._size = self._size + 1
        return grown

    def __getitem__(self, name: str) -> Receipt:
        place, receipt = self._placed[name]
        if place >= self._size:
            raise KeyError(name)
        return receipt

    def get(self, name: str, default: Any = None) -> Any:
        """As any mapping has it, in a third of the time."""
        placed = self._placed.get(name)
        return default if placed is None or placed[0] >= self._size else placed[1]

    def __iter__(self) -> Iterator[str]:
        return islice(self._placed, self._size)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"Receipts({dict(self)!r})"


def plus(receipts: Mapping[str, Receipt], name: str, receipt: Receipt) -> Receipts:
    """``receipts``, of whatever kind, and one more."""
    known = receipts if isinstance(receipts, Receipts) else Receipts(receipts)
    return known.plus(name, receipt)
