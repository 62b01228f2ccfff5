"""The built-in modules on Wasmtime, and the same sources as native programs under sanitizers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.firmware.toolchain import Compiler, find_compiler
from tests.wasm_client.golden import Case
from tests.wasm_client.modules import NAMES, image_of
from tests.wasm_client.wasmtime_run import Finished, WasmtimeRunner

NATIVE = Path(__file__).with_name("native")
CLIENT = Path(__file__).resolve().parents[2] / "wasm_client"
SDK = CLIENT / "sdk"

Runner = Callable[[Case, Path], Finished]


@pytest.fixture(scope="session")
def runners() -> dict[str, WasmtimeRunner]:
    """The built-in modules by name."""
    return {name: WasmtimeRunner(image_of(name)) for name in NAMES}


@pytest.fixture(scope="session")
def native_compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """A C compiler for this machine; without one, the test is skipped."""
    found = find_compiler(tmp_path_factory.mktemp("probe"))
    if found is None:
        pytest.skip("no C compiler: install cc, clang or gcc, or pip install ziglang")
    return found


def build_native(compiler: Compiler, out: Path, sources: list[Path]) -> Path:
    """Build a program of ``sources`` and the SDK, without its WASI platform."""
    sdk = [path for path in sorted(SDK.glob("*.c")) if path.name != "fl_wasi.c"]
    flags = ["-ffp-contract=off", f"-I{SDK}", f"-I{NATIVE}"]
    compiler.build(out, [*sources, *sdk], [*flags, "-lm"])
    return out


@pytest.fixture(scope="session")
def native_programs(
    native_compiler: Compiler, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The built-in clients as programs of this machine, by name."""
    folder = tmp_path_factory.mktemp("native")
    return {
        name: build_native(
            native_compiler,
            folder / name,
            [NATIVE / "platform_posix.c", *(CLIENT / name).glob("*.c")],
        )
        for name in NAMES
    }


@pytest.fixture(params=["wasmtime", "native"])
def run_case(request: pytest.FixtureRequest) -> Runner:
    """Runs a golden case, on each of the two."""
    if request.param == "wasmtime":
        runners: dict[str, WasmtimeRunner] = request.getfixturevalue("runners")
        return lambda case, folder: runners[case.module].run(case.env, case.files)

    programs: dict[str, Path] = request.getfixturevalue("native_programs")

    def run(case: Case, folder: Path) -> Finished:
        for name, content in case.files.items():
            (folder / name).write_bytes(content)
        done = subprocess.run(
            [programs[case.module], folder],
            env=case.env,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr.decode())

    return run
