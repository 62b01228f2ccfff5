"""What a log line looks like, whatever is written into it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest

from propeller_fl import log

Lines = Callable[[], list[str]]
_LOGGER = logging.getLogger("propeller_fl.coordinator.test")


@pytest.fixture(params=["plain", "json"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(form: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What has been logged so far, in either form."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    stream = io.StringIO()
    log.configure("info", as_json=form == "json", stream=stream)
    yield lambda: stream.getvalue().splitlines()
    log.configure("warning")


def test_an_event_is_one_line_with_its_ids(lines: Lines, form: str) -> None:
    _LOGGER.info("two\nlines", extra={"round_id": "r-1", "proplet_id": "p-1"})
    _LOGGER.debug("not shown")
    [line] = lines()
    if form == "json":
        event = json.loads(line)
        assert event["message"] == "two\nlines"
        assert (event["round_id"], event["proplet_id"]) == ("r-1", "p-1")
        assert (event["level"], event["logger"]) == ("info", _LOGGER.name)
    else:
        assert r"INFO    coordinator  two\nlines  [round_id=r-1 proplet_id=p-1]" in line


HOSTILE = [
    "\n2026-11-25T00:00:00.000Z ERROR   coordinator  forged",
    "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029",
    "\x1b[2J\x1b]0;title\x07\x9b31m\x7f\0",
    "\u202eright to left\u2066",
    "half \ud800 a character",
    '{"level": "error"}',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_text(lines: Lines, text: str) -> None:
    record = _LOGGER.makeRecord(
        _LOGGER.name, logging.WARNING, "", 0, "refused: %s", (text,), None, extra={"round_id": text}
    )
    # not through the logger: pytest listens there, and cannot report what is no Unicode
    logging.getLogger().handlers[0].handle(record)
    [line] = lines()
    assert line.isprintable()
    line.encode()


def test_a_traceback_cannot_be_taken_for_another_event(lines: Lines, form: str) -> None:
    try:
        raise ValueError(HOSTILE[0])
    except ValueError:
        _LOGGER.exception("it failed")
    first, *others = lines()
    assert "it failed" in first
    if form == "json":
        assert others == []
        assert "forged" in json.loads(first)["exception"]
    else:
        assert all(line.startswith("    ") for line in others)
        assert "forged" in others[-1]


def test_the_ids_in_a_topic_are_on_the_line(lines: Lines) -> None:
    _LOGGER.info("ignored", extra={"topic": "m/t/c/x/fl/rounds/r-1/updates/p-1"})
    _LOGGER.info("ignored", extra={"topic": "control/manager/stop/p-1"})
    _LOGGER.info("ignored", extra={"topic": "fl/rounds/r-1/status"})
    _LOGGER.info("ignored", extra={"topic": "fl/rounds/start"})
    found = [tuple(re.findall(r"\b(round_id|proplet_id)\b", line)) for line in lines()]
    assert found == [("round_id", "proplet_id"), ("proplet_id",), ("round_id",), ()]


def test_a_long_message_is_cut_short(lines: Lines) -> None:
    _LOGGER.warning("%s", "x" * 65_535)
    [line] = lines()
    assert len(line) < 5_000
    assert "65535 characters" in line


def test_the_warnings_of_others_are_lines_of_ours(lines: Lines, form: str) -> None:
    logging.getLogger("uvicorn.error").warning("two\nlines")
    logging.getLogger("uvicorn.error").info("not shown")
    [line] = lines()
    assert "uvicorn" in (json.loads(line)["logger"] if form == "json" else line)


def test_what_goes_on_is_said_once_until_it_changes_or_is_over() -> None:
    trouble = log.Trouble()
    assert trouble.is_news("full")
    assert not trouble.is_news("full")
    assert trouble.is_news("locked")
    assert trouble.is_over()
    assert not trouble.is_over()
    assert trouble.is_news("locked")
