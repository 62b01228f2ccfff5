"""Modules to begin with: ours, and small ones that use every part of the language and of WASI."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable, Iterator
from typing import Final

import wasmtime

_IMPORTS: Final = """
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""

# $put_… append to the buffer at 4096; what is in it is written when _start ends well.
_HELPERS: Final = """
  (global $end (mut i32) (i32.const 4096))
  (func $put_i32 (param i32)
    (i32.store (global.get $end) (local.get 0))
    (global.set $end (i32.add (global.get $end) (i32.const 4))))
  (func $put_i64 (param i64)
    (i64.store (global.get $end) (local.get 0))
    (global.set $end (i32.add (global.get $end) (i32.const 8))))
  (func $put_f32 (param f32) (call $put_i32 (i32.reinterpret_f32 (local.get 0))))
  (func $put_f64 (param f64) (call $put_i64 (i64.reinterpret_f64 (local.get 0))))
  (func $flush
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.sub (global.get $end) (i32.const 4096)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
"""


def _module(start: str, more: str = "", memory: str = "1") -> bytes:
    """One whose ``_start`` has the body ``start``, and writes what was put."""
    return bytes(
        wasmtime.wat2wasm(
            f'(module {_IMPORTS} (memory (export "memory") {memory}) {_HELPERS} {more}'
            f' (func (export "_start") {start} (call $flush)))'
        )
    )


def _calls(kind: str, one: Iterable[str], two: Iterable[str]) -> str:
    """Unary and binary operations of a type on values that lie in memory from 64 on."""
    load = f"({kind}.load (i32.const {{at}}))"
    size = int(kind[1:]) // 8
    first, second = load.format(at=64), load.format(at=64 + size)
    lines = [f"(call $put_{kind} ({kind}.{name} {first}))" for name in one]
    lines += [f"(call $put_{kind} ({kind}.{name} {first} {second}))" for name in two]
    return "\n".join(lines)


def _relations(kind: str, names: Iterable[str]) -> str:
    size = int(kind[1:]) // 8
    operands = f"({kind}.load (i32.const 64)) ({kind}.load (i32.const {64 + size}))"
    return "\n".join(f"(call $put_i32 ({kind}.{name} {operands}))" for name in names)


_INT_TWO: Final = "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr".split()
_INT_ONE: Final = "clz ctz popcnt extend8_s extend16_s".split()
_INT_RELATIONS: Final = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u".split()
_FLOAT_ONE: Final = "abs neg ceil floor trunc nearest sqrt".split()
_FLOAT_TWO: Final = "add sub mul div min max copysign".split()
_FLOAT_RELATIONS: Final = "eq ne lt gt le ge".split()
_DATA: Final = (
    '(data (i32.const 64) "\\07\\00\\00\\40\\03\\00\\00\\c0\\01\\80\\ff\\7f\\12\\34\\56\\3f")'
)

_CONVERSIONS: Final = """
  (call $put_i32 (i32.wrap_i64 (i64.load (i32.const 64))))
  (call $put_i32 (i32.trunc_f32_s (f32.load (i32.const 64))))
  (call $put_i32 (i32.trunc_f64_u (f64.abs (f64.const 3.75))))
  (call $put_i32 (i32.trunc_sat_f32_s (f32.load (i32.const 68))))
  (call $put_i32 (i32.trunc_sat_f64_u (f64.load (i32.const 64))))
  (call $put_i64 (i64.extend_i32_s (i32.load (i32.const 72))))
  (call $put_i64 (i64.trunc_f32_u (f32.const 1e9)))
  (call $put_i64 (i64.trunc_f64_s (f64.const -1e15)))
  (call $put_i64 (i64.trunc_sat_f64_s (f64.load (i32.const 64))))
  (call $put_f32 (f32.convert_i32_u (i32.load (i32.const 72))))
  (call $put_f32 (f32.convert_i64_s (i64.load (i32.const 64))))
  (call $put_f32 (f32.demote_f64 (f64.load (i32.const 64))))
  (call $put_f32 (f32.reinterpret_i32 (i32.load (i32.const 76))))
  (call $put_f64 (f64.convert_i64_u (i64.load (i32.const 64))))
  (call $put_f64 (f64.promote_f32 (f32.load (i32.const 76))))
"""
_MEMORY: Final = """
  (i32.store8 (i32.const 100) (i32.const 0x1ff))
  (i32.store16 offset=2 (i32.const 100) (i32.const -2))
  (i64.store32 offset=65000 (i32.const 500) (i64.const -3))
  (i64.store8 (i32.const 65535) (i64.const 5))
  (call $put_i32 (i32.load8_s (i32.const 100)))
  (call $put_i32 (i32.load16_u offset=2 (i32.const 100)))
  (call $put_i64 (i64.load32_s (i32.const 65500)))
  (call $put_i64 (i64.load8_u (i32.const 65535)))
  (call $put_i32 (memory.size))
  (f32.store (i32.const 200) (f32.const 0.1))
  (f64.store (i32.const 204) (f64.load (i32.const 64)))
  (call $put_f64 (f64.load align=1 (i32.const 204)))
"""
_BULK: Final = """
  (memory.fill (i32.const 300) (i32.const 7) (i32.const 40))
  (memory.copy (i32.const 310) (i32.const 64) (i32.const 12))
  (memory.init 1 (i32.const 320) (i32.const 1) (i32.const 3))
  (data.drop 1)
  (call $put_i64 (i64.load (i32.const 304)))
  (call $put_i64 (i64.load (i32.const 318)))
"""
_CONTROL: Final = """
  (local $i i32) (local $sum i64)
  (block $out
    (loop $again
      (br_if $out (i32.ge_u (local.get $i) (i32.const 20)))
      (local.set $sum (i64.add (local.get $sum)
        (i64.extend_i32_u (call $classify (i32.rem_u (local.get $i) (i32.const 5))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $again)))
  (call $put_i64 (local.get $sum))
  (call $put_i32 (call $fib (i32.const 12)))
  (call $put_i32 (if (result i32) (i64.eqz (local.get $sum))
    (then (i32.const 1)) (else (i32.const 2))))
  (call $put_i32 (select (i32.const 3) (i32.const 4) (i32.eqz (local.get $i))))
  (call $put_i32 (call_indirect (type $unary) (i32.const 9) (i32.const 1)))
  (call $put_i32 (block (result i32) (br 0 (i32.const 5))))
"""
_CONTROL_MORE: Final = """
  (type $unary (func (param i32) (result i32)))
  (table 3 3 funcref)
  (elem (i32.const 0) $classify $fib)
  (func $classify (param i32) (result i32)
    (block $c (block $b (block $a (br_table $a $b $c $b (local.get 0)))
      (return (i32.const 10))) (return (i32.const 200)))
    (i32.const 3000))
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
"""
_SEVERAL_VALUES: Final = """
  (call $put_i32 (i32.sub (call $pair)))
  (call $put_i32 (block (param) (result i32) (i32.const 1) (i32.const 2) (i32.mul)))
"""


def _small_modules() -> Iterator[bytes]:
    for kind in ("i32", "i64"):
        one = [*_INT_ONE, *(["extend32_s"] if kind == "i64" else [])]
        yield _module(_calls(kind, one, _INT_TWO) + _relations(kind, _INT_RELATIONS), _DATA)
    for kind in ("f32", "f64"):
        start = _calls(kind, _FLOAT_ONE, _FLOAT_TWO) + _relations(kind, _FLOAT_RELATIONS)
        yield _module(start, _DATA)
    yield _module(_CONVERSIONS, _DATA)
    yield _module(_MEMORY, _DATA)
    yield _module(_BULK, f'{_DATA} (data $late "abcdef")')
    yield _module(_CONTROL, _CONTROL_MORE)
    yield _module(_SEVERAL_VALUES, "(func $pair (result i32 i32) (i32.const 9) (i32.const 4))")
    yield _module("(call $put_i32 (memory.grow (i32.const 1)))", memory="1 3")
    yield _module("(call $proc_exit (i32.const 7))")
    yield _module("(unreachable)")
    yield _module("(loop $again (br $again))")


@functools.cache
def module_seeds() -> tuple[bytes, ...]:
    """The small ones, and the built-in modules."""
    folder = importlib.resources.files("propeller_fl") / "modules"
    ours = [(folder / f"{name}.wasm").read_bytes() for name in ("activity", "linear", "softmax")]
    return (*_small_modules(), *ours)
