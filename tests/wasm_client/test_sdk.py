"""The SDK's parts under sanitizers, against the C library and against damaged input."""

from __future__ import annotations

from pathlib import Path

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
