"""A board's console: one log file, and the one way a test waits for a line in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pexpect  # type: ignore[import-untyped]
from pytest_embedded.log import PexpectProcess

FORBIDDEN: Final = ("FATAL ERROR", "ASSERTION FAIL")
"""What no healthy firmware says. A test that sees it while it waits has failed."""

_LAST_LINES: Final = 20
_SLICE_S: Final = 0.25  # between two looks at whether the board still runs
_POLL_S: Final = 0.02
_READ_BYTES: Final = 65_536


class ConsoleError(AssertionError):
    """What was waited for did not come. The message has the pattern, the last lines, the log."""


class ForbiddenOutput(ConsoleError):
    """The board said something that it must not say."""


class Console:
    """Reads a log that something else writes to: a process, or a serial port's reader.

    ``gone``: says in words that the board has ended, or None while it runs; a wait then fails at
    once instead of at its deadline.
    """

    def __init__(self, log_path: Path, gone: Callable[[], str | None] = lambda: None) -> None:
        self.log_path = log_path
        self._gone = gone
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.touch()
        self._log = log_path.open("rb", buffering=0)  # the reader and we share its position
        self._reader = PexpectProcess(self._log, maxread=_READ_BYTES)
        self._reader.delayafterread = _POLL_S

    def expect(
        self, pattern: str, timeout_s: float, *, not_matching: Sequence[str] = ()
    ) -> re.Match[bytes]:
        """Wait for ``pattern``, a regular expression; return its match.

        What was read up to its end is used up: the next call goes on behind it. ``ConsoleError``
        after ``timeout_s`` or when the board has ended; ``ForbiddenOutput`` when one of
        ``not_matching`` or of FORBIDDEN comes first.
        """
        forbidden = [*FORBIDDEN, *not_matching]
        wanted = [re.compile(one.encode()) for one in (pattern, *forbidden)]
        deadline = time.monotonic() + timeout_s
        while True:
            gone = self._gone()  # asked before the read, which then sees its last words
            left_s = deadline - time.monotonic()
            slice_s = 0.0 if gone else max(0.0, min(_SLICE_S, left_s))
            found = self._reader.expect([*wanted, pexpect.TIMEOUT], timeout=slice_s)
            if found == 0:
                match: re.Match[bytes] = self._reader.match
                return match
            if found <= len(forbidden):
                said = self._reader.match[0].decode(errors="replace")
                raise ForbiddenOutput(self._failure(f"{said!r} came", pattern))
            if gone:
                raise ConsoleError(self._failure(gone, pattern))
            if left_s <= 0:
                raise ConsoleError(self._failure(f"{timeout_s:g} s have passed", pattern))

    def check(self) -> None:
        """Look through what has come and was not waited for: ``ForbiddenOutput`` as above."""
        rest = self._reader.buffer + self._log.read()
        for bad in FORBIDDEN:
            if bad.encode() in rest:
                raise ForbiddenOutput(self._failure(f"{bad!r} came", "nothing more"))

    def close(self) -> None:
        """Stop reading; the log stays."""
        self._log.close()

    def _failure(self, why: str, pattern: str) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        last = "\n".join(f"  | {line}" for line in lines[-_LAST_LINES:]) or "  | (nothing)"
        return (
            f"{why} while waiting for {pattern!r}\nlast lines:\n{last}\nfull log: {self.log_path}"
        )
