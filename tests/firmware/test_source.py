"""How the core is written: portable, formatted, and clean under the static analysers at hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.firmware.toolchain import LIB, Compiler, core_sources, include_flags, run

CLANG_FORMAT_MAJOR = 14
"""Other major versions break the same lines differently."""

ALLOWED_HEADERS = {"stdbool.h", "stddef.h", "stdint.h", "string.h"}

TIDY_CHECKS = ",".join(
    (
        "-*",
        "bugprone-*",
        "cert-*",
        "clang-analyzer-*",
        "misc-*",
        "performance-*",
        "portability-*",
        # bounds are checked by hand in code that has no memcpy_s
        "-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling",
        "-bugprone-not-null-terminated-result",
        # WASI's functions have the parameters that WASI gave them
        "-bugprone-easily-swappable-parameters",
    )
)

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def sources_and_headers() -> list[Path]:
    return sorted([*core_sources(), *LIB.glob("*/*.h"), *LIB.glob("*/include/*.h")])


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_nothing_but_freestanding_headers_and_string_h_is_included() -> None:
    own = {path.name for path in sources_and_headers()}
    foreign = {
        f"{path.relative_to(LIB)}: {header}"
        for path in sources_and_headers()
        if path.parents[1].name != "check"
        for header in INCLUDE.findall(path.read_text(encoding="utf-8"))
        if header not in ALLOWED_HEADERS | own
    }

    assert foreign == set()


def test_nothing_here_knows_zephyr() -> None:
    c_files = [path for path in LIB.rglob("*.[ch]") if "zephyr/" in path.read_text("utf-8")]

    assert c_files == []


def test_nothing_is_allocated() -> None:
    call = re.compile(r"\b(malloc|calloc|realloc|free|alloca)\s*\(")
    found = [path.name for path in sources_and_headers() if call.search(path.read_text("utf-8"))]

    assert found == []


@pytest.mark.parametrize("header", sorted(LIB.glob("*/include/*.h")), ids=lambda path: path.stem)
def test_a_header_stands_alone(header: Path, compiler: Compiler, tmp_path: Path) -> None:
    source = tmp_path / "alone.c"
    source.write_text(
        f'#include "{header.name}"\nint alone(void);\nint alone(void) {{ return 0; }}\n'
    )

    compiler.compile(tmp_path, [source], [*include_flags(), "-Wno-unused-variable"])


def test_format() -> None:
    clang_format = tool("clang-format")
    version = subprocess.run(
        [clang_format, "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"version (\d+)", version.stdout)
    if found is None or int(found[1]) != CLANG_FORMAT_MAJOR:
        pytest.skip(f"clang-format {CLANG_FORMAT_MAJOR} is not installed")

    run([clang_format, "--dry-run", "--Werror", *sorted(LIB.rglob("*.[ch]"))], cwd=LIB)


def test_cppcheck() -> None:
    run(
        [
            tool("cppcheck"),
            "--std=c11",
            "--enable=warning,style,performance,portability",
            "--suppress=missingIncludeSystem",
            "--inline-suppr",
            "--error-exitcode=1",
            "--quiet",
            *include_flags(),
            *core_sources(),
        ],
        cwd=LIB,
    )


def test_clang_tidy() -> None:
    run(
        [
            tool("clang-tidy"),
            "--quiet",
            f"--checks={TIDY_CHECKS}",
            "--warnings-as-errors=*",
            *core_sources(),
            "--",
            "-std=c11",
            *include_flags(),
        ],
        cwd=LIB,
    )
