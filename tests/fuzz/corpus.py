"""The inputs that are kept: a text file for each target, an input a line, for people to read too.

    name: text

Bytes that are not printable ASCII, the backslash, and a blank at an end are written as Python
writes them. An input that once broke something has a name of words; the others, kept because they
reach what no other does, are named by their SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("corpus")
_NAME_CHARS: Final = 12


def load_corpus(target: str) -> dict[str, bytes]:
    """Kept inputs by name; none for a target without a file."""
    path = _path(target)
    lines = path.read_text(encoding="ascii").split("\n") if path.is_file() else []
    pairs = (line.split(": ", 1) for line in lines if line)
    return {name: _decode(text) for name, text in pairs}


def save_corpus(target: str, inputs: Mapping[str, bytes]) -> Path:
    """Replace a target's kept inputs, those with a name of words first; return the file."""
    ordered = sorted(inputs, key=lambda name: (name == name_of(inputs[name]), name))
    path = _path(target)
    path.write_text(
        "".join(f"{name}: {_encode(inputs[name])}\n" for name in ordered), encoding="ascii"
    )
    return path


def name_of(data: bytes) -> str:
    """What an input without a name of its own is called."""
    return hashlib.sha256(data).hexdigest()[:_NAME_CHARS]


def _path(target: str) -> Path:
    return _FOLDER / f"{target}.txt"


def _encode(data: bytes) -> str:
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return text[:-1] + "\\x20" if text.endswith(" ") else text


def _decode(text: str) -> bytes:
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")
