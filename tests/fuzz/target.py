"""What a fuzz target is: one way into the code for bytes from outside, and what must hold there."""

from __future__ import annotations

import importlib
import random
import traceback
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

MAX_INPUT_BYTES: Final = 65_536


class Broken(Exception):
    """A promise that the code did not keep; the message says which."""


class Mutate(Protocol):
    """Makes an input of one that is known, and parts of another."""

    def __call__(self, rng: random.Random, data: bytes, other: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Target:
    """``check`` takes any bytes in, and returns how it went: an input whose answer was not seen
    before is worth keeping. Whatever it raises is a finding, and so are death, a hang, and memory
    out of proportion.

    ``make_seeds``: inputs to begin with, besides those in the corpus. ``reserves_memory``: it maps
    far more address space than it uses, as Wasmtime does, so that this cannot be limited.
    """

    name: str
    check: Callable[[bytes], Hashable] = field(repr=False)
    mutate: Mutate = field(repr=False)
    make_seeds: Callable[[], Iterable[bytes]] = field(repr=False, default=tuple)
    reserves_memory: bool = False


def raised_at(error: BaseException) -> Hashable:
    """The place in the code: an answer that is the same for the same reason."""
    places = traceback.extract_tb(error.__traceback__)
    return places[-1].filename, places[-1].lineno


def find_target(name: str) -> Target:
    """The target of this name; ``module:attribute`` is one from elsewhere."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        assert isinstance(target, Target), name
        return target
    from tests.fuzz.targets import TARGETS

    return TARGETS[name]
