"""Logs: one event a line, for people or, on request, as JSON.

A record's ids (given as ``extra``) are on its line: ``round_id``, ``proplet_id`` (``proplet_ids``
where there are several), ``task_id``, ``client_id``; a ``topic`` gives those that are in it. What
others wrote cannot end a line, begin one or reach a terminal as anything but text: only a
traceback has lines of its own, and they are indented.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final, TextIO

_IDS: Final = ("experiment_id", "round_id", "proplet_id", "proplet_ids", "task_id", "client_id")
_IDS_IN_TOPIC: Final = re.compile(
    r"(?:.+/)?(?:fl/rounds/(?P<round_id>[\w.-]{1,64})/\w+(?:/(?P<proplet_id>[\w.-]{1,64}))?"
    r"|control/manager/\w+/(?P<addressee>[\w.-]{1,64}))",
    re.ASCII,
)
_MAX_CHARS: Final = 4096  # of one message or id; the rest is counted
_REMIND_AFTER_S: Final = 60.0


def printable(text: str) -> str:
    """``text`` with every character that is not plainly visible written as its escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class Trouble:
    """Something that keeps failing is said once, and again every minute. One thread."""

    def __init__(self) -> None:
        self._said = ""
        self._said_at_s = 0.0

    def is_news(self, text: str) -> bool:
        """Whether ``text`` is to be logged now."""
        now_s = time.monotonic()
        if text == self._said and now_s - self._said_at_s < _REMIND_AFTER_S:
            return False
        self._said, self._said_at_s = text, now_s
        return True

    def is_over(self) -> bool:
        """Call it when all is well; true if it was not before."""
        said, self._said = self._said, ""
        return bool(said)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in _ids(record).items())
        name = record.name.removeprefix("propeller_fl.").split(".")[0]
        line = f"{_time(record)} {record.levelname:<7} {name:<12} {_cut(record.getMessage())}"
        lines = [f"{line}  [{ids}]" if ids else line]
        if record.exc_info:
            lines += [f"    {line}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(printable(line) for line in lines)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage()),
            **_ids(record),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event)  # ASCII, all else escaped


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to ``stream``, or to what is standard error at that moment."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream or sys.stderr)
        self._fixed = stream is not None

    def emit(self, record: logging.LogRecord) -> None:
        if not self._fixed:
            self.stream = sys.stderr
        super().emit(record)


def configure(level: str = "INFO", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send log lines to ``stream`` (standard error): this package's of ``level`` and above, the
    warnings and errors of all others."""
    handler = _Handler(stream)
    handler.setFormatter(_Json() if as_json else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [h for h in root.handlers if not isinstance(h, _Handler)] + [handler]
    logging.getLogger("propeller_fl").setLevel(level.upper())


def is_json() -> bool:
    """Whether ``configure`` was asked for JSON."""
    return any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers)


def catch_uncaught() -> None:
    """Log what ends a thread, and warnings, instead of printing them."""

    def log_end(ended: threading.ExceptHookArgs) -> None:
        name = ended.thread.name if ended.thread else "?"
        error = ended.exc_value
        logging.getLogger("propeller_fl").critical("thread %s has ended", name, exc_info=error)

    threading.excepthook = log_end
    logging.captureWarnings(True)


def _ids(record: logging.LogRecord) -> dict[str, str]:
    given = record.__dict__  # one lookup each, and the pattern only where there is a topic
    found = {name: given.get(name) for name in _IDS}
    said = given.get("topic")
    topic = _IDS_IN_TOPIC.fullmatch(said) if said else None
    if topic is not None:
        found["round_id"] = found["round_id"] or topic["round_id"]
        found["proplet_id"] = found["proplet_id"] or topic["proplet_id"] or topic["addressee"]
    return {name: _cut(str(value)) for name, value in found.items() if value}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}… of {len(text)} characters"


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
