"""All targets by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.fuzz.documents import document_targets
from tests.fuzz.target import Target
from tests.fuzz.texts import text_targets
from tests.fuzz.wasm_runs import wasm_targets

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target for target in (*document_targets(), *text_targets(), *wasm_targets())
}
