"""Floats as text: the same cases as the firmware's."""

from __future__ import annotations

import pytest

from propeller_fl.errors import MessageError
from propeller_fl.proplet import GenericRuns, Stop
from propeller_fl.wire import TaskStart
from tests.support.floats import CASES, REFUSED

from .modules import LOOK


@pytest.fixture(scope="module")
def runs() -> GenericRuns:
    return GenericRuns(fuel=10**6, wall_time_s=60, memory_bytes=1 << 20, output_bytes=4096)


def look(runs: GenericRuns, kind: str, text: str) -> str:
    return runs.run(TaskStart("t-1", kind, "p-1", "", {}, inputs=(text,)), LOOK, Stop())


def test_a_text_becomes_the_nearest_float_and_its_shortest_text(runs: GenericRuns) -> None:
    for kind, text, looked_at in CASES:
        assert look(runs, kind, text) == looked_at, (kind, text)


def test_what_is_no_number_is_refused(runs: GenericRuns) -> None:
    for text in REFUSED:
        for kind in ("f32", "f64"):
            with pytest.raises(MessageError, match=f"no {kind}"):
                look(runs, kind, text)
