"""A short, repeatable run of every fuzz target; `-runs` and `-seed` make it the same each time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.firmware.toolchain import (
    FIXTURES,
    LIB,
    WARNINGS,
    Compiler,
    core_sources,
    include_flags,
    run,
)

TARGETS = sorted(LIB.glob("*/fuzz/fuzz_*.c"))
RUNS = 30_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """Clang with libFuzzer; without it, the test is skipped."""
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    sanitizers = "-fsanitize=fuzzer,address,undefined"
    found = Compiler((clang,), ("-O1", "-g", *WARNINGS, sanitizers, "-fno-sanitize-recover=all"))
    folder = tmp_path_factory.mktemp("fuzzer")
    probe = folder / "probe.c"
    probe.write_text(
        "#include <stddef.h>\n#include <stdint.h>\n"
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);\n"
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)\n"
        "{\n    (void)data;\n    (void)size;\n    return 0;\n}\n"
    )
    try:
        found.build(folder / "probe", [probe])
    except AssertionError:
        pytest.skip("clang has no libFuzzer here: install its compiler runtime")
    return found


@pytest.fixture(scope="module")
def fuzzed_core(fuzzer: Compiler, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The core's object files, instrumented."""
    folder = tmp_path_factory.mktemp("fuzzed_core")
    fuzzer.compile(folder, core_sources(), include_flags())
    return sorted(folder.glob("*.o"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The message fixtures as seeds; their two first bytes choose a decoder and a piece's size."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    decoders = ("task_start", "task_stop", "update_ack", "round_complete")
    for path in sorted(FIXTURES.glob("*/*.json")):
        message = path.stem.split("-")[0]
        if message in decoders:
            seed = bytes((decoders.index(message), 7)) + path.read_bytes()
            (folder / path.stem).write_bytes(seed)
    return folder


@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem.removeprefix("fuzz_"))
def test_fuzz(
    target: Path, fuzzer: Compiler, fuzzed_core: list[Path], corpus: Path, tmp_path: Path
) -> None:
    program = tmp_path / target.stem
    fuzzer.build(program, [target, *fuzzed_core], include_flags())

    run([program, f"-runs={RUNS}", "-seed=1", "-max_len=2048", corpus], cwd=tmp_path)
