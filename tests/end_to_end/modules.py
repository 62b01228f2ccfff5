"""Tiny Wasm modules that misbehave in one way each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wasmtime

_PRINT = """
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{text}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const {size}))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
TRAP = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'
BAD_IMPORT = """
(module (import "wasi_snapshot_preview1" "clock_time_get"
    (func (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1) (func (export "_start")))
"""


def save(directory: Path, wat: str) -> str:
    """Write the module of this text; returns the image reference of the file."""
    path = directory / f"module-{abs(hash(wat)):x}.wasm"
    path.write_bytes(wasmtime.wat2wasm(wat))
    return str(path)


def prints(directory: Path, document: dict[str, Any]) -> str:
    """A module that prints one document and ends well."""
    text = json.dumps(document)
    escaped = "".join(f"\\{byte:02x}" for byte in text.encode())
    return save(directory, _PRINT.format(text=escaped, size=len(text)))


def update(round_id: str, **changes: Any) -> dict[str, Any]:
    """The document proplet-1 should print for the seed's model."""
    return {
        "round_id": round_id,
        "proplet_id": "proplet-1",
        "base_model_uri": "fl/models/global_model_v0",
        "num_samples": 10,
        "metrics": {},
        "update": {"w": [1.0, 2.0, 3.0], "b": 4.0},
    } | changes
