"""Reads README.md and the documents for the commands that they tell a reader to type.

A block of code without a language, and one in ``sh``, is for a shell; any other has its language.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

REPOSITORY = Path(__file__).parents[2]
PAGES = ["README.md", "wasm_client/README.md"]
PAGES += sorted(f"docs/{file.name}" for file in (REPOSITORY / "docs").glob("*.md"))

_SHELL = {"", "sh", "bash", "console", "shell"}


@dataclass(frozen=True)
class Command:
    """One command, with all of its lines."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@cache
def commands_of(page: str) -> tuple[Command, ...]:
    """In the order in which they are read."""
    found: list[Command] = []
    for token in MarkdownIt("commonmark").parse((REPOSITORY / page).read_text()):
        if token.type == "code_block" or (token.type == "fence" and token.info in _SHELL):
            assert token.map
            first = token.map[0] + (1 if token.type == "fence" else 0) + 1
            lines = enumerate(token.content.splitlines(), first)
            found.extend(Command(page, line, text) for line, text in _joined(lines))
    return tuple(found)


def all_commands() -> Iterator[Command]:
    for page in PAGES:
        yield from commands_of(page)


@cache
def mentions_of(page: str) -> tuple[str, ...]:
    """What stands in running text as ``propeller-fl …``."""
    spans: list[str] = []
    for token in MarkdownIt("commonmark").enable("table").parse((REPOSITORY / page).read_text()):
        spans += [one.content for one in token.children or [] if one.type == "code_inline"]
    return tuple(span for span in spans if re.match(r"(\.venv/bin/)?propeller-fl [a-z-]", span))


def words_of(text: str) -> list[str]:
    """A command's words, without a comment behind it and without where the program lies."""
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    return [words[0].removeprefix(".venv/bin/"), *words[1:]] if words else []


def _joined(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines that go on in the next one, in a quote or in a parenthesis, with it."""
    first, text = 0, ""
    for number, line in lines:
        first = first or number
        text = f"{text}\n{line}" if text else line
        if not _is_open(text):
            if words_of(text):
                yield first, text
            first, text = 0, ""
    assert not text, f"a command does not end: {text}"


def _is_open(text: str) -> bool:
    try:
        words = list(shlex.shlex(text, posix=True, punctuation_chars=True))
    except ValueError:  # in the middle of a quote
        return True
    return text.rstrip().endswith("\\") or words.count("(") > words.count(")")
