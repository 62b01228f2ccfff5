"""Every golden vector gives the same bytes, or the same failure, in Wasm and in native code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.wasm_client.conftest import Runner
from tests.wasm_client.golden import Case, load_all


@pytest.mark.parametrize("case", load_all(), ids=lambda case: case.name)
def test_case(case: Case, run_case: Runner, tmp_path: Path) -> None:
    done = run_case(case, tmp_path)

    assert re.fullmatch(case.stderr, done.stderr), done.stderr
    assert done.status == case.status
    assert done.stdout == case.stdout


def test_failures_write_nothing_to_stdout_and_one_line_to_stderr() -> None:
    for case in load_all():
        if case.status != 0:
            assert case.stdout == b"", case.name
            assert case.stderr.count("\n") == 1, case.name
