"""`propeller-fl test http`: a whole round by HTTP, and a verdict."""

from __future__ import annotations

import subprocess
import sys


def run(*args: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "propeller_fl", "test", "http", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    return done.returncode, done.stdout.splitlines() or [done.stderr]


def test_it_passes_on_services_of_its_own() -> None:
    status, lines = run()
    assert status == 0, lines
    assert lines[-2:] == ["round: 3 updates made model version 1", "PASSED"]


def test_it_fails_where_nobody_answers() -> None:
    status, lines = run("--url", "http://127.0.0.1:9")
    assert status == 1
    assert lines[-1].startswith("FAILED: GET http://127.0.0.1:9/health")
