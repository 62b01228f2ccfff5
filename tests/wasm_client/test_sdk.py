"""The SDK's parts under sanitizers, against the C library and against damaged input."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.firmware.toolchain import Compiler, run
from tests.wasm_client.conftest import NATIVE, build_native
from tests.wasm_client.golden import load_all

_FLOATS_STRIDE = 997  # test_number with 1 tries all floats, in some minutes
_FUZZ_ROUNDS = 3000


def _build(compiler: Compiler, name: str, folder: Path) -> Path:
    sources = [NATIVE / f"{name}.c", NATIVE / "platform_memory.c"]
    return build_native(compiler, folder / name, sources)


@pytest.mark.parametrize(
    ("name", "arguments"), [("test_number", [str(_FLOATS_STRIDE)]), ("test_math", [])]
)
def test_unit(name: str, arguments: list[str], native_compiler: Compiler, tmp_path: Path) -> None:
    run([_build(native_compiler, name, tmp_path), *arguments], cwd=tmp_path)


def test_halves_are_numpys(native_compiler: Compiler, tmp_path: Path) -> None:
    """Every float16, every point half-way between two, and the float32 on both sides of each."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    points = np.concatenate([halves, middles, [65520, 65536, 1e-45, 1e38, np.inf]])
    points = points.astype(np.float32)
    near = [np.nextafter(points, np.float32(end), dtype=np.float32) for end in (0, np.inf)]
    values = np.concatenate([points, *near, [np.nan]]).astype(np.float32)
    values = np.concatenate([values, -values])
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    bits = np.where(np.isfinite(expected), expected.view(np.uint16), 0xFFFF)

    program = _build(native_compiler, "test_half", tmp_path)
    done = subprocess.run(program, input=values.tobytes(), capture_output=True, check=True)

    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.uint16), bits)


def test_damaged_documents_are_read_or_refused(native_compiler: Compiler, tmp_path: Path) -> None:
    program = _build(native_compiler, "fuzz_documents", tmp_path)
    seeds = []
    for case in load_all():
        if case.status == 0:
            texts = {"hyperparams": case.env["HYPERPARAMS"].encode(), **case.files}
            for name, content in texts.items():
                seed = tmp_path / f"{case.name}.{name}"
                if len(content) < 4096:
                    seed.write_bytes(content)
                    seeds.append(seed)

    run([program, str(_FUZZ_ROUNDS), *seeds], cwd=tmp_path)
