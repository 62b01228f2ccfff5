"""The host's decoders over the message fixtures that the firmware's decoders read too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from propeller_fl.errors import MessageError
from propeller_fl.wire import (
    Alive,
    Discovery,
    ImageChunk,
    ImageRequest,
    RoundComplete,
    TaskResult,
    TaskStart,
    TaskStop,
    UpdateAck,
)
from tests.firmware.toolchain import FIXTURES

DECODERS: dict[str, Any] = {
    "alive": Alive,
    "discovery": Discovery,
    "image_chunk": ImageChunk,
    "image_request": ImageRequest,
    "result": TaskResult,
    "round_complete": RoundComplete,
    "task_start": TaskStart,
    "task_stop": TaskStop,
    "update_ack": UpdateAck,
}


def fixtures(folder: str) -> list[Path]:
    return [
        path
        for path in sorted((FIXTURES / folder).glob("*.json"))
        if path.stem.split("-")[0] in DECODERS
    ]


def decode(path: Path) -> Any:
    return DECODERS[path.stem.split("-")[0]].decode(path.read_bytes())


def value_of(message: Any, name: str) -> str:
    """The value of ``name``, where ``part.key`` is a value of one of its mappings or parts."""
    if name.endswith("_size_bytes"):
        return str(len(getattr(message, name.removesuffix("_size_bytes"))))
    name, dot, key = name.partition(".")
    value = getattr(message, name)
    if dot:
        value = value[key] if isinstance(value, Mapping) else getattr(value, key)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(value)
    return value.hex() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("path", fixtures("valid"), ids=lambda path: path.stem)
def test_a_valid_message_says_what_is_expected(path: Path) -> None:
    expected: dict[str, str] = json.loads(path.with_suffix(".expect").read_text(encoding="utf-8"))
    message = decode(path)

    # A status that a foreign coordinator leaves out has a meaning of its own on the host.
    wanted = {name: text for name, text in expected.items() if (name, text) != ("status", "")}
    assert {name: value_of(message, name) for name in wanted} == wanted


@pytest.mark.parametrize("path", fixtures("invalid"), ids=lambda path: path.stem)
def test_an_invalid_message_is_refused_for_its_reason(path: Path) -> None:
    _, reason, subject = path.stem.split("-")

    with pytest.raises(MessageError) as refusal:
        decode(path)

    assert refusal.value.reason == reason
    if reason != "undecodable":
        assert refusal.value.field == subject.split("__")[0]
