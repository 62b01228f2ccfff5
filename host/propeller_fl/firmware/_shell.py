"""Configuration typed on a board's console: the lines of firmware/src/config_settings.c."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from propeller_fl.errors import RequestError

LINE_BYTES_MAX: Final = 60
"""Zephyr's shell drops without a word what comes faster than it reads beyond 64 bytes; a line that
is no longer, and answered before the next, always fits."""

_BAUD: Final = 115_200
_ANSWER: Final = re.compile(rb"fl: (done|refused: [^\r\n]*)[\r\n]")
_PROMPT: Final = b"uart:~$ "


class _Port(Protocol):
    """What of pyserial's ``Serial`` is used; its ``read`` waits for a moment at most."""

    def read(self, size: int = ..., /) -> bytes: ...
    def write(self, data: bytes, /) -> int | None: ...


def shell_lines(settings: Mapping[str, str]) -> Iterator[str]:
    """What is typed to keep ``settings`` in a board's flash; an empty value clears its key.

    No line is longer than :data:`LINE_BYTES_MAX`. They are used from the board's next start on.
    """
    for key, value in settings.items():
        whole = f"fl set {key} {value}" if value else f"fl clear {key}"
        if len(whole.encode()) <= LINE_BYTES_MAX:
            yield whole
            continue
        start = f"fl put {key} "
        step = LINE_BYTES_MAX - len(start)
        for at in range(0, len(value), step):
            yield start + value[at : at + step]
        yield f"fl keep {key} {len(value)}"


def type_settings(port: str, settings: Mapping[str, str], *, answer_timeout_s: float = 10) -> None:
    """Type ``settings`` on the console at ``port``, each line when the one before was answered.

    Nothing of them is logged. Raises :class:`RequestError`: no such port, no shell of ours there,
    or what the board refused.
    """
    import serial  # only hosts with boards have it

    try:
        with serial.Serial(port, _BAUD, timeout=0.05, write_timeout=answer_timeout_s) as console:
            console.write(b"\r\n")
            _await(console, re.compile(re.escape(_PROMPT)), port, answer_timeout_s)
            for line in shell_lines(settings):
                console.write(f"{line}\r\n".encode())
                answer = _await(console, _ANSWER, port, answer_timeout_s)[1].decode(
                    "utf-8", "replace"
                )
                if answer != "done":
                    raise RequestError(
                        f"the board on {port} {answer}",
                        hint="is its firmware of this version, and built with overlay-tls.conf?",
                    )
    except (serial.SerialException, OSError) as err:
        raise RequestError(f"the console on {port} cannot be used: {err}") from err


def _await(
    console: _Port, pattern: re.Pattern[bytes], port: str, timeout_s: float
) -> re.Match[bytes]:
    heard = b""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        heard += console.read(1024)
        found = pattern.search(heard)
        if found:
            return found
    raise RequestError(
        f"no shell with the command `fl` answers on {port}",
        hint="is the firmware built with CONFIG_SHELL and of this version, and the port no other "
        "program's?",
    )
