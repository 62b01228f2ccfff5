"""Builds the portable core once for all tests of the firmware."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.firmware.toolchain import (
    FIXTURES,
    LIB,
    Compiler,
    core_sources,
    find_compiler,
    include_flags,
    run,
)


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """A C compiler; without one, the test is skipped."""
    found = find_compiler(tmp_path_factory.mktemp("probe"))
    if found is None:
        pytest.skip("no C compiler: install cc, clang or gcc, or pip install ziglang")
    return found


@pytest.fixture(scope="session")
def core_objects(compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The core's object files."""
    folder = tmp_path_factory.mktemp("core")
    compiler.compile(folder, core_sources(), include_flags())
    return sorted(folder.glob("*.o"))


@pytest.fixture(scope="session")
def message_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the shared message fixtures as ``message_fixtures.h``."""
    folder = tmp_path_factory.mktemp("fixtures")
    script = LIB / "message" / "test" / "make_fixtures.py"
    run([sys.executable, script, FIXTURES, folder / "message_fixtures.h"], cwd=folder)
    return folder
