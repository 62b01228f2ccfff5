"""The built modules in the package: where they come from, what they import, how large they are."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest
import wasmtime

from propeller_fl.client import build_module
from propeller_fl.proplet import check_module
from tests.wasm_client.conftest import CLIENT, SDK
from tests.wasm_client.modules import NAMES, image_of

_PAGE_BYTES = 64 * 1024
_MODULE_MAX_BYTES = {
    "activity": 16_896,  # what boards have room for: the default of CONFIG_FL_IMAGE_BYTES_MAX
    "linear": 16 * 1024,
    "softmax": 16 * 1024,
}
_USED_MAX_BYTES = 40 * 1024  # of the page, stack included: what WAMR shrinks it to
_STACK_BYTES = 2048


@pytest.mark.parametrize("name", NAMES)
def test_sources_give_the_committed_bytes(name: str, tmp_path: Path) -> None:
    pytest.importorskip(
        "ziglang", reason="no compiler for Wasm: pip install 'propeller-fl[client]'"
    )

    built = build_module(CLIENT / name, tmp_path / f"{name}.wasm")

    assert built.path.read_bytes() == image_of(name), "run python wasm_client/build.py"
    assert built.sha256 == hashlib.sha256(image_of(name)).hexdigest()
    assert built.size_bytes == len(image_of(name))


def test_digests_are_those_of_the_modules() -> None:
    text = files("propeller_fl").joinpath("modules", "SHA256SUMS").read_text()

    assert text == "".join(
        f"{hashlib.sha256(image_of(name)).hexdigest()}  {name}.wasm\n" for name in NAMES
    )


def test_the_package_has_the_header_of_the_sdk() -> None:
    packaged = files("propeller_fl").joinpath("modules", "fl_imports.h")

    assert packaged.read_bytes() == (SDK / "fl_imports.h").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_imports_are_in_the_header(name: str) -> None:
    allowed = dict(
        re.findall(r'^FL_IMPORT\((\w+), "([^"]+)"', (SDK / "fl_imports.h").read_text(), re.M)
    )
    letters = {"i32": "i", "i64": "I"}

    module = wasmtime.Module(wasmtime.Engine(), image_of(name))

    for item in module.imports:
        assert item.module == "wasi_snapshot_preview1"
        assert isinstance(item.type, wasmtime.FuncType)
        params = "".join(letters[str(kind)] for kind in item.type.params)
        results = "".join(letters[str(kind)] for kind in item.type.results)
        assert item.name in allowed
        assert allowed[item.name] == f"({params}){results}"


@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract_without_a_remark(name: str) -> None:
    assert check_module(image_of(name)).findings == ()


@pytest.mark.parametrize("name", NAMES)
def test_fits_a_microcontroller(name: str) -> None:
    assert len(image_of(name)) <= _MODULE_MAX_BYTES[name]

    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, image_of(name))
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    exports = linker.instantiate(store, module).exports(store)

    assert {item.name for item in module.exports} == {
        "memory",
        "_start",
        "__heap_base",
        "__data_end",
    }
    memory, heap_base, data_end = (exports[n] for n in ("memory", "__heap_base", "__data_end"))
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(heap_base, wasmtime.Global)
    assert isinstance(data_end, wasmtime.Global)
    assert memory.data_len(store) == _PAGE_BYTES
    assert memory.type(store).limits.max == 1
    assert _STACK_BYTES < data_end.value(store) <= heap_base.value(store) <= _USED_MAX_BYTES
    assert not any(memory.read(store, 0, _STACK_BYTES)), "the stack is not first"
