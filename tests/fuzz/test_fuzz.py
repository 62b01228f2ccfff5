"""A short, repeatable run of every target: what is kept, and some thousand changed inputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.board import build_runtime, missing_for_runtime
from tests.fuzz.campaign import Report, run_core, run_python
from tests.fuzz.core import CoreProgram, build_core, core_sources_by_name, find_fuzzer
from tests.fuzz.targets import TARGETS
from tests.fuzz.wasm_runs import BOARD_VARIABLE, ON_RUNTIMES

PYTHON_RUNS = 1_000
CORE_RUNS = 10_000
RUNTIME_RUNS = 1_000
BUILD_TIMEOUT_S = 900


def nothing_found(report: Report) -> None:
    assert report.finding is None, f"{report.finding}: {report.words}"
    assert report.inputs > 0


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ON_RUNTIMES])
def test_python_code_keeps_its_promises(name: str, tmp_path: Path) -> None:
    nothing_found(run_python(name, tmp_path / name, runs=PYTHON_RUNS))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CoreProgram]:
    """The firmware core's targets, built."""
    folder = tmp_path_factory.mktemp("core")
    compiler, lacking = find_fuzzer(folder)
    if compiler is None:
        pytest.skip(lacking)
    return {one.name: one for one in build_core(compiler, folder, core_sources_by_name())}


@pytest.mark.timeout(BUILD_TIMEOUT_S)
def test_the_firmware_core_keeps_its_promises(
    programs: dict[str, CoreProgram], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name, program in programs.items():
        with subtests.test(name):
            nothing_found(run_core(program, tmp_path / name, runs=CORE_RUNS))


@pytest.mark.parametrize("name", ON_RUNTIMES)
@pytest.mark.timeout(BUILD_TIMEOUT_S)
def test_modules_do_no_harm_on_wasmtime(name: str, tmp_path: Path) -> None:
    nothing_found(run_python(name, tmp_path / name, runs=RUNTIME_RUNS))


@pytest.mark.firmware
@pytest.mark.timeout(BUILD_TIMEOUT_S)
@pytest.mark.parametrize("name", ON_RUNTIMES)
def test_modules_do_the_same_on_both_runtimes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking := missing_for_runtime():
        pytest.skip(f"WAMR is left out: {lacking}")
    monkeypatch.setitem(os.environ, BOARD_VARIABLE, str(build_runtime()))

    nothing_found(run_python(name, tmp_path / name, runs=RUNTIME_RUNS))
