"""Building a client of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wasmtime

from propeller_fl.client import build_module
from propeller_fl.errors import ConfigError, ModuleError
from propeller_fl.wire import Format, decode_document, encode_document
from tests.wasm_client.conftest import CLIENT
from tests.wasm_client.wasmtime_run import WasmtimeRunner

pytest.importorskip("ziglang", reason="no compiler for Wasm: pip install 'propeller-fl[client]'")

ENV = {"ROUND_ID": "r-1", "MODEL_URI": "fl/models/global_model_v0"}


def _build(folder: Path, source: str) -> Path:
    (folder / "client.c").write_text(source)
    return build_module(folder, folder / "client.wasm").path


def test_the_example(tmp_path: Path) -> None:
    """Least squares on y = 2 x0 - x1."""
    source = (CLIENT.parent / "examples/least_squares/least_squares.c").read_text()
    x = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)
    files = {
        "model": encode_document({"w": np.zeros(2, np.float32)}, Format.JSON),
        "data": encode_document({"x": x, "y": 2 * x[:, 0] - x[:, 1]}, Format.CBOR),
    }

    image = _build(tmp_path, source).read_bytes()
    done = WasmtimeRunner(image).run(ENV | {"HYPERPARAMS": '{"epochs":20,"lr":0.5}'}, files)

    assert (done.status, done.stderr) == (0, "")
    assert decode_document(done.stdout)["update"]["w"] == pytest.approx([2, -1], abs=1e-4)


def test_a_stack_overflow_traps(tmp_path: Path) -> None:
    image = _build(
        tmp_path,
        """
        #include "fl.h"
        static uint32_t deeper(uint32_t depth)
        {
            volatile char room[64] = {(char)depth};
            return depth == 0 ? 0 : deeper(depth - 1) + (uint32_t)room[depth % 64];
        }
        void fl_main(void) { fl_fail("came back with %u", deeper(100)); }
        """,
    ).read_bytes()

    with pytest.raises(wasmtime.Trap, match="out of bounds"):
        WasmtimeRunner(image).run(ENV, {})


def test_errors_are_in_the_compilers_words(tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match=r"client\.c:1:.*error"):
        _build(tmp_path, "not C\n")
    with pytest.raises(ModuleError, match="undefined symbol: malloc"):
        _build(tmp_path, "void *malloc(unsigned long);\nvoid fl_main(void) { malloc(9); }\n")
    assert not (tmp_path / "client.wasm").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no C source"):
        build_module(tmp_path, tmp_path / "out.wasm")
    (tmp_path / "client.c").touch()
    with pytest.raises(ConfigError, match="is not the client SDK"):
        build_module(tmp_path, tmp_path / "out.wasm", sdk_dir=tmp_path / "nowhere")
