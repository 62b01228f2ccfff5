"""Looks at one process that runs inputs: which is under way, how long it takes, how much it takes.

The input under way lies in a file that is mapped into memory, so that it is there for whoever
comes after a process that died.
"""

from __future__ import annotations

import mmap
import os
import re
import resource
import signal
import struct
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.fuzz.target import MAX_INPUT_BYTES, Broken, Target

INPUT_LIMIT_S: Final = 20.0
"""An input that takes longer is a hang. Real time: the machine may be busy with other things."""

_ALLOWED_BYTES: Final = 64 * 1024 * 1024  # what one input may add, whatever its size
_ADDRESS_SPACE_BYTES: Final = 2 * 1024 * 1024 * 1024
_HEAD: Final = struct.Struct("<QI")  # inputs so far, size of the one under way
_FILE_BYTES: Final = _HEAD.size + MAX_INPUT_BYTES
_PEAK: Final = re.compile(rb"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class Watch:
    """Runs a target's inputs one by one. A context manager; in a process of its own, because a hang
    ends it by SIGALRM and because its address space is limited."""

    def __init__(self, target: Target, path: Path, limit_s: float = INPUT_LIMIT_S) -> None:
        self.inputs = 0
        self._limit_s = limit_s
        self._target = target
        path.write_bytes(bytes(_FILE_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FILE_BYTES)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if not target.reserves_memory:
            resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, resource.RLIM_INFINITY))
        # not getrusage(), whose peak a process inherits from the one that started it
        self._status = os.open("/proc/self/status", os.O_RDONLY)

    def run(self, data: bytes) -> Hashable:
        """Check one input; what it raises, and memory out of proportion, is a finding."""
        self.inputs += 1
        self._map[_HEAD.size : _HEAD.size + len(data)] = data
        self._map[: _HEAD.size] = _HEAD.pack(self.inputs, len(data))
        before = self._peak_bytes()
        signal.setitimer(signal.ITIMER_REAL, self._limit_s)
        answer = self._target.check(data)
        signal.setitimer(signal.ITIMER_REAL, 0)  # what comes between inputs has time
        grown = self._peak_bytes() - before
        if grown > _ALLOWED_BYTES:
            raise Broken(f"{len(data)} bytes of input took {grown} bytes of memory")
        return answer

    def _peak_bytes(self) -> int:
        found = _PEAK.search(os.pread(self._status, 4096, 0))
        assert found is not None, "Linux says how much memory a process has had"
        return int(found[1]) * 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._map.close()
        os.close(self._status)


def last_input(path: Path) -> tuple[int, bytes]:
    """How many inputs a process has begun, and the last of them."""
    content = path.read_bytes()
    inputs, size = _HEAD.unpack_from(content)
    return inputs, content[_HEAD.size : _HEAD.size + size]
