"""Whatever is lost, late, repeated or killed: the promises of docs/reliability.md hold.

A thousand schedules by default. ``PROPELLER_SIMULATION=full`` runs a hundred thousand, a number as
many; ``PROPELLER_SIMULATION_SEED`` runs that one alone and prints what happened in it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.simulation.simulation import run
from tests.simulation.world import Violation

_ASKED = os.environ.get("PROPELLER_SIMULATION", "1000")
SCHEDULES = 100_000 if _ASKED == "full" else int(_ASKED)
SEED = os.environ.get("PROPELLER_SIMULATION_SEED")
CHUNK = 250  # schedules that a process takes at once


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """A hundred thousand rounds have a lot to say."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def broken_in(seeds: range) -> str:
    """What the first of these schedules that breaks a promise has to say, or nothing."""
    for seed in seeds:
        try:
            run(seed)
        except Violation as err:
            return str(err)
    return ""


@pytest.mark.skipif(SEED is not None, reason="one schedule was asked for")
@pytest.mark.timeout(3600)
def test_no_schedule_breaks_a_promise() -> None:
    chunks = [range(n, min(n + CHUNK, SCHEDULES)) for n in range(0, SCHEDULES, CHUNK)]
    processes = min(os.cpu_count() or 1, len(chunks))
    with multiprocessing.Pool(processes, logging.disable, [logging.CRITICAL]) as pool:
        for broken in pool.imap_unordered(broken_in, chunks):
            assert not broken, broken


@pytest.mark.skipif(SEED is None, reason="no PROPELLER_SIMULATION_SEED is set")
def test_the_schedule_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(int(SEED or 0), tracing=True)
    with capsys.disabled():
        print("\n" + "\n".join(lines))


@pytest.mark.parametrize("seed", [3, 11])
def test_a_seed_is_the_same_schedule_in_every_process(seed: int) -> None:
    code = (
        f"from tests.simulation.simulation import run; print(*run({seed}, tracing=True), sep='\\n')"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            check=True,
            capture_output=True,
            timeout=100,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(traces) == 1
    assert len(traces.pop().splitlines()) > 10
