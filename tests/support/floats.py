"""Floats as text that host and firmware agree on (tests/fixtures/numbers)."""

from __future__ import annotations

import re
from pathlib import Path

_FIXTURE = (Path(__file__).parents[1] / "fixtures" / "numbers" / "floats.h").read_text("ascii")

REFUSED: list[str] = re.findall(r'^FLOAT_REFUSED\("(.*)"\)$', _FIXTURE, re.MULTILINE)


def _looked_at(bits: int, kind: str, written: str) -> str:
    size = int(kind[1:])
    return f"{written},{bits - (1 << size) if bits >> (size - 1) else bits}"


CASES: list[tuple[str, str, str]] = [
    (kind, text, _looked_at(int(bits, 16), kind, written))
    for kind, text, bits, written in re.findall(
        r'^FLOAT_CASE\((f32|f64), "(.+)", (0x\w+), "(.+)"\)$', _FIXTURE, re.MULTILINE
    )
]
"""Type, text, and what ``modules.LOOK`` makes of it: its shortest text, and its bits."""

assert len(CASES) == _FIXTURE.count("\nFLOAT_CASE")
assert len(REFUSED) == _FIXTURE.count("\nFLOAT_REFUSED")
