"""The harness itself: it finds what is planted, keeps it, and says how to see it again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.campaign import REPO, replay_python, run_core, run_python
from tests.fuzz.child import FINDING
from tests.fuzz.core import CoreProgram, find_fuzzer
from tests.fuzz.corpus import load_corpus, name_of, save_corpus
from tests.fuzz.targets import TARGETS

PLANTED = "tests.fuzz.planted"
DEFECT = """
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return size > 2 && data[0] == 'F' && data[size] == 1 ? -1 : 0;
}
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("divides", "ZeroDivisionError"),
        ("hangs", "more than 2 s"),
        ("hoards", "bytes of memory"),
        ("reserves", "MemoryError"),
        ("crashes", ""),
    ],
)
def test_a_fault_is_found_and_can_be_seen_again(fault: str, words: str, tmp_path: Path) -> None:
    report = run_python(f"{PLANTED}:{fault}", tmp_path / fault, runs=10_000, limit_s=2.0)

    assert report.finding is not None
    assert words in report.words
    assert len(report.finding.read_bytes()) <= 3, "the very input that broke it"
    assert report.inputs < 10_000, "it stops there"
    if fault != "hangs":
        assert replay_python(report.target, report.finding) != 0


def test_code_that_is_sound_has_no_finding(tmp_path: Path) -> None:
    report = run_python(f"{PLANTED}:sound", tmp_path / "sound", runs=5_000)

    assert (report.finding, report.inputs) == (None, 5_000)


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    runs = [tmp_path / "first", tmp_path / "second"]
    for folder in runs:
        run_python("alive", folder, runs=1_500, seed=3)

    found = [sorted(path.name for path in (folder / "found").iterdir()) for folder in runs]
    assert found[0] == found[1] != []


def test_a_fault_in_c_is_found(tmp_path: Path) -> None:
    compiler, lacking = find_fuzzer(tmp_path)
    if compiler is None:
        pytest.skip(lacking)
    source = tmp_path / "defect.c"
    source.write_text(DEFECT)
    compiler.build(tmp_path / "defect", [source])

    report = run_core(CoreProgram("defect", tmp_path / "defect"), tmp_path / "run", runs=100_000)

    assert report.finding is not None
    assert report.finding.read_bytes().startswith(b"F")
    assert "heap-buffer-overflow" in (tmp_path / "run" / "log").read_text()


@pytest.mark.parametrize(
    "data", [b"", b"plain", b" blanks ", b"line\nbreak\\ \\x00", bytes(range(256)), b"\n "]
)
def test_a_corpus_is_text_and_loses_nothing(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.corpus._FOLDER", tmp_path)

    path = save_corpus("any", {"a-name": data, name_of(b"x"): b"x"})

    assert load_corpus("any") == {"a-name": data, name_of(b"x"): b"x"}
    assert path.read_text().isascii()
    assert not any(line.endswith(" ") for line in path.read_text().splitlines() if data)


def test_every_kept_corpus_has_its_target() -> None:
    from tests.fuzz.core import core_sources_by_name

    known = {*TARGETS, *core_sources_by_name()}
    folder = Path(__file__).with_name("corpus")

    assert {path.stem for path in folder.iterdir()} <= known
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_the_command_keeps_a_finding_and_says_how_to_replay_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", f"--folder={tmp_path}"]
    done = subprocess.run(
        [*command, "alive", f"{PLANTED}:divides"],
        cwd=REPO,
        env={**os.environ, "PROPELLER_FUZZ_RUNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert re.search(r"^alive +500 +[\d.]+ +\d+ +0$", done.stdout, re.MULTILINE)
    again = re.search(r"^again: .* -m tests.fuzz --replay (\S+) (\S+)$", done.stdout, re.MULTILINE)
    assert again is not None
    assert replay_python(again[2], Path(again[1])) == FINDING
