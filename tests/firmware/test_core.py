"""The portable core of the firmware: each library's own tests, under sanitizers if possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware.toolchain import LIB, Compiler, include_flags, run

SUITES = sorted(LIB.glob("*/test/test_*.c"))


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem.removeprefix("test_"))
def test_library(
    suite: Path,
    compiler: Compiler,
    core_objects: list[Path],
    message_fixtures: Path,
    tmp_path: Path,
) -> None:
    program = tmp_path / suite.stem
    compiler.build(program, [suite, *core_objects], [*include_flags(), f"-I{message_fixtures}"])

    output = run([program], cwd=tmp_path)

    assert output.rstrip().endswith("tests passed")


def test_every_library_has_a_test() -> None:
    tested = {suite.parents[1].name for suite in SUITES}
    libraries = {source.parent.name for source in LIB.glob("*/*.c")}

    assert libraries - tested == set()
