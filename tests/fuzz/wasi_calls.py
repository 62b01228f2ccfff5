"""One module that makes whatever WASI calls its data asks for, and then shows what they did.

So the bytes that are changed are calls and their arguments, and the module, which stays as it is,
need not be compiled again for each of them. A call is a byte for the function and one for each
argument; see :func:`call`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Final

import wasmtime

from propeller_fl.proplet import Contract

POKE: Final = "poke"
"""No call: stores a word of four bytes at an address, as a module does between calls."""

_NAMES: Final = (*Contract.load().imports, POKE)
_EDGES: Final = (
    *(4096, 8192, 40_000, 65_528, 65_532, 65_535, 65_536, 65_537),
    *(0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFC, 0xFFFF_FFFF, 0x2000_0000, 1024, 1025),
)
_STEP: Final = 32  # what an argument from 128 on counts in
_FIRST_EDGE: Final = 256 - len(_EDGES)
# Memory: 0 to 4095 is the calls' own, and what they left there is shown at the end.
_EDGES_AT, _IOV_AT, _READ_AT, _PROGRAM_AT, _LOG_AT = 4096, 4224, 4240, 8192, 16_384
_PROGRAM_BYTES, _LOG_BYTES = 4096, 8192


def call(name: str, *arguments: int) -> bytes:
    """A call as the module reads it. Arguments: 0 to 127, multiples of 32 from 0 to 3520, or one of
    the addresses and sizes at which something ends."""
    return bytes([_NAMES.index(name), *map(_encode, arguments)])


def _encode(value: int) -> int:
    if value < 128:
        return value
    if value in _EDGES:
        return _FIRST_EDGE + _EDGES.index(value)
    assert value % _STEP == 0
    return 128 + value // _STEP


@functools.cache
def calling_module() -> bytes:
    """The module."""
    signatures = dict(Contract.load().imports)
    imports = "\n".join(_import(name, signature) for name, signature in signatures.items())
    functions = "\n".join(_case(name, signature) for name, signature in signatures.items())
    labels = " ".join(f"$f{index}" for index in range(len(_NAMES)))
    # The innermost block ends where the first function is called, and so on outwards.
    blocks = "(block $none " + " ".join(f"(block $f{i}" for i in reversed(range(len(_NAMES))))
    edges = "".join(f"\\{byte:02x}" for edge in _EDGES for byte in edge.to_bytes(4, "little"))
    return bytes(
        wasmtime.wat2wasm(f"""
(module
  {imports}
  (memory (export "memory") 1)
  (data (i32.const 64) "model") (data (i32.const 72) "data") (data (i32.const 80) "../model")
  (data (i32.const 96) "./model/") (data (i32.const 112) "none")
  (data (i32.const 256) "\\00\\04\\00\\00\\05\\00\\00\\00\\20\\04\\00\\00\\03\\00\\00\\00")
  (data (i32.const 288) "\\40\\00\\00\\00\\05\\00\\00\\00")
  (data (i32.const {_EDGES_AT}) "{edges}")
  (global $at (mut i32) (i32.const {_PROGRAM_AT}))
  (global $end (mut i32) (i32.const {_PROGRAM_AT}))
  (global $log (mut i32) (i32.const {_LOG_AT}))

  (func $byte (result i32)
    (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (i32.const 0))))
    (i32.load8_u (global.get $at))
    (global.set $at (i32.add (global.get $at) (i32.const 1))))
  (func $arg (result i32) (local $byte i32)
    (local.set $byte (call $byte))
    (if (i32.lt_u (local.get $byte) (i32.const 128)) (then (return (local.get $byte))))
    (if (i32.lt_u (local.get $byte) (i32.const {_FIRST_EDGE}))
      (then (return (i32.mul (i32.sub (local.get $byte) (i32.const 128)) (i32.const {_STEP})))))
    (i32.load offset={_EDGES_AT}
      (i32.shl (i32.sub (local.get $byte) (i32.const {_FIRST_EDGE})) (i32.const 2))))
  (func $wide (result i64)
    (i64.or (i64.extend_i32_u (call $arg))
      (i64.shl (i64.extend_i32_s (call $arg)) (i64.const 32))))
  (func $note (param $errno i32)
    (if (i32.lt_u (global.get $log) (i32.const {_LOG_AT + _LOG_BYTES}))
      (then
        (i32.store8 (global.get $log) (local.get $errno))
        (global.set $log (i32.add (global.get $log) (i32.const 1))))))
  (func $write (param $from i32) (param $to i32)
    (i32.store (i32.const {_IOV_AT}) (local.get $from))
    (i32.store (i32.const {_IOV_AT + 4}) (i32.sub (local.get $to) (local.get $from)))
    (drop (call $fd_write (i32.const 1) (i32.const {_IOV_AT}) (i32.const 1)
      (i32.const {_READ_AT}))))

  (func $step
    {blocks}
      (br_table {labels} $none (call $byte))
    )
    {functions}
    (i32.store (call $arg) (i32.or (call $arg) (i32.shl (call $arg) (i32.const 8))))
    )
  )

  (func (export "_start")
    (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 72) (i32.const 4) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const {_READ_AT})))
    (i32.store (i32.const {_IOV_AT}) (i32.const {_PROGRAM_AT}))
    (i32.store (i32.const {_IOV_AT + 4}) (i32.const {_PROGRAM_BYTES}))
    (drop (call $fd_read (i32.const 4) (i32.const {_IOV_AT}) (i32.const 1)
      (i32.const {_READ_AT})))
    (global.set $end (i32.add (global.get $end) (i32.load (i32.const {_READ_AT}))))
    (drop (call $fd_close (i32.const 4)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (global.get $at) (global.get $end)))
        (call $step)
        (br $next)))
    (call $write (i32.const {_LOG_AT}) (global.get $log))
    (call $write (i32.const 0) (i32.const 4096))))
""")
    )


def _import(name: str, signature: str) -> str:
    params, _, result = signature[1:].partition(")")
    types = " ".join(_TYPES[letter] for letter in params)
    results = f"(result {_TYPES[result]})" if result else ""
    return f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) {results}))'


def _case(name: str, signature: str) -> str:
    """Call it, note its errno, and be done with this step; it follows its block's end."""
    params, _, result = signature[1:].partition(")")
    arguments = " ".join("(call $arg)" if letter == "i" else "(call $wide)" for letter in params)
    made = f"(call ${name} {arguments})"
    return (f"(call $note {made})" if result else made) + " (return) )"


def program_seeds() -> Iterator[bytes]:
    """What clients do, and each function by itself."""
    opened = call("path_open", 3, 0, 64, 5, 0, 2, 0, 0, 0, 0, 128)
    yield opened + call("fd_read", 4, 256, 2, 160) + call("fd_close", 4)
    yield opened + call("fd_pread", 4, 256, 1, 2, 0, 160) + call("fd_seek", 4, 3, 0, 1, 160)
    yield opened + call("fd_tell", 4, 160) + call("fd_filestat_get", 4, 512) + opened * 8
    yield call("path_open", 3, 0, 80, 8, 0, 2, 0, 0, 0, 0, 128)
    yield call("path_open", 3, 0, 96, 8, 2, 2, 0, 0, 0, 0, 128)
    yield call("environ_sizes_get", 128, 160) + call("environ_get", 512, 1024)
    yield call("args_sizes_get", 128, 160) + call("args_get", 512, 1024)
    yield call("fd_prestat_get", 3, 128) + call("fd_prestat_dir_name", 3, 160, 3)
    yield call("fd_fdstat_get", 3, 512) + call("fd_fdstat_set_flags", 1, 4)
    yield call("fd_write", 1, 288, 1, 128) + call("fd_write", 2, 288, 1, 128)
    yield call(POKE, 288, 1025, 1) + call("fd_write", 1, 288, 1, 128)
    yield call("proc_exit", 3)
    yield call("proc_exit", 0)


def program_tokens() -> Sequence[bytes]:
    """The functions."""
    return [bytes([index]) for index in range(len(_NAMES))]


_TYPES: Final = {"i": "i32", "I": "i64"}
