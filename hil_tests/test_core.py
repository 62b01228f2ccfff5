"""The portable core's own tests as ztest, by twister, on whatever the board is simulated by."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil_tests.bench import Bench
from propeller_fl.firmware import BoardKind, find_workspace, repository


@pytest.mark.timeout(900)
def test_the_portable_core_passes_its_tests_here(bench: Bench, tmp_path: Path) -> None:
    if bench.spec.kind is BoardKind.WEST:
        pytest.skip("twister needs a hardware map for a real board")
    workspace = find_workspace()
    assert workspace is not None, "without one this test is skipped"
    twister = [str(workspace.west), "twister"]
    environment = workspace.environment()
    probe = subprocess.run(
        [*twister, "--help"],
        env=environment,
        cwd=workspace.topdir,
        capture_output=True,
        check=False,
    )
    if probe.returncode != 0:
        pytest.skip(
            "twister does not start: "
            f"pip install -r {workspace.zephyr_base}/scripts/requirements-run-test.txt"
        )
    done = subprocess.run(
        [
            *twister,
            "--testsuite-root",
            str(repository() / "firmware" / "tests"),
            "--platform",
            bench.spec.zephyr_board,
            "--outdir",
            str(tmp_path / "twister"),
            "--inline-logs",
            "--jobs",
            "2",
        ],
        env=environment,
        cwd=workspace.topdir,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    assert "test configurations passed" in output or "executed test configurations" in output
    summary = (tmp_path / "twister" / "twister.json").read_text()
    assert '"status":"passed"' in summary.replace(" ", ""), "it ran, and was not only built"
