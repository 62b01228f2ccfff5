"""Targets with a fault each, to see that the harness finds it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Hashable
from typing import Final

import numpy as np

from tests.fuzz.mutate import byte_mutator
from tests.fuzz.target import Target
from tests.fuzz.watch import INPUT_LIMIT_S

_SEED: Final = b"abcdefg"


def _planted(name: str, fault: Callable[[], object]) -> Target:
    """It behaves until it is given a seed that is cut short by half."""

    def check(data: bytes) -> Hashable:
        if len(data) <= len(_SEED) // 2:
            fault()
        return len(data)

    return Target(f"{__name__}:{name}", check, byte_mutator([b"x"]), lambda: [_SEED])


def _divide() -> float:
    return 1 / len(b"")


def _hang() -> None:
    time.sleep(10 * INPUT_LIMIT_S)


def _hoard() -> int:
    return int(np.ones(100_000_000, np.uint8).sum())


def _reserve() -> int:
    return len(bytearray(4 << 30))


def _crash() -> bytes:
    return ctypes.string_at(0)


sound: Final = _planted("sound", lambda: None)
divides: Final = _planted("divides", _divide)
hangs: Final = _planted("hangs", _hang)
hoards: Final = _planted("hoards", _hoard)
reserves: Final = _planted("reserves", _reserve)
crashes: Final = _planted("crashes", _crash)
