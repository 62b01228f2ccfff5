"""The gate between a module and the host: a generated Wasm module with the allowed imports only.

It is there for three things that host functions in Python cannot do. It stops a run from inside a
call: a negative errno makes it trap. It answers ``fd_pread``, which a training loop calls once a
row, without Python and so without the GIL. And nothing is linked that it does not export.

The files of a run are in a memory of their own. First a table with two u32 for each descriptor: the
start and size of an open file, or 0 and the errno of reading what is none. From ``FILES_START`` on,
the files themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

import wasmtime

MAX_FDS = 12
"""Descriptors are below this: three streams, the directory, and eight open files."""

MAX_IOVS = 1024
"""Buffers of one call, as POSIX has it: a call into the host cannot be interrupted."""

FILES_START = MAX_FDS * 8
"""Where the first file begins in the files memory."""

STOP = -1
"""What a host function returns to end the run."""

_PREAD = "fd_pread"
_PREAD_SIGNATURE = "(iiiIi)i"
_WAT_TYPES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}

# fd_pread needs the module's memory, which exists only after the module has been linked to the
# gate: so the gate calls it through a table, and this module fills the table in afterwards.
# Errnos: 8 BADF, 21 FAULT, 28 INVAL.
_READER_WAT = f"""
(module
  (import "module" "memory" (memory $module 0))
  (import "host" "files" (memory $files 1))
  (import "gate" "readers" (table 1 1 funcref))
  (elem (i32.const 0) $fd_pread)

  (func $outside (param $address i32) (param $size i64) (result i32)
    (i64.gt_u
      (i64.add (i64.extend_i32_u (local.get $address)) (local.get $size))
      (i64.shl (i64.extend_i32_u (memory.size $module)) (i64.const 16))))

  (func $iov_outside (param $iov i32) (result i32)
    (call $outside
      (i32.load $module (local.get $iov))
      (i64.load32_u $module offset=4 (local.get $iov))))

  (func $fd_pread (param $fd i32) (param $iovs i32) (param $count i32) (param $offset i64)
                  (param $read i32) (result i32)
    (local $source i32) (local $left i32) (local $size i32) (local $total i64)
    (local $iov i32) (local $n i32)

    (if (i32.ge_u (local.get $fd) (i32.const {MAX_FDS})) (then (return (i32.const 8))))
    (local.set $source (i32.load $files (i32.shl (local.get $fd) (i32.const 3))))
    (local.set $left (i32.load $files offset=4 (i32.shl (local.get $fd) (i32.const 3))))
    (if (i32.eqz (local.get $source)) (then (return (local.get $left))))

    ;; Check the list, each buffer and their sum before anything is written.
    (if (i32.gt_u (local.get $count) (i32.const {MAX_IOVS})) (then (return (i32.const 28))))
    (if (call $outside (local.get $iovs)
          (i64.shl (i64.extend_i32_u (local.get $count)) (i64.const 3)))
      (then (return (i32.const 21))))
    (local.set $iov (local.get $iovs))
    (local.set $n (local.get $count))
    (block $checked
      (loop $next
        (br_if $checked (i32.eqz (local.get $n)))
        (if (call $iov_outside (local.get $iov)) (then (return (i32.const 21))))
        (local.set $total
          (i64.add (local.get $total) (i64.load32_u $module offset=4 (local.get $iov))))
        (if (i64.gt_u (local.get $total) (i64.const 0xffffffff)) (then (return (i32.const 28))))
        (local.set $iov (i32.add (local.get $iov) (i32.const 8)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
    (if (call $outside (local.get $read) (i64.const 4)) (then (return (i32.const 21))))

    (if (i64.ge_u (local.get $offset) (i64.extend_i32_u (local.get $left)))
      (then (local.set $left (i32.const 0)))
      (else
        (local.set $source (i32.add (local.get $source) (i32.wrap_i64 (local.get $offset))))
        (local.set $left (i32.sub (local.get $left) (i32.wrap_i64 (local.get $offset))))))
    (local.set $total (i64.const 0))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        ;; Again: a buffer may lie on the list itself.
        (if (call $iov_outside (local.get $iovs)) (then (return (i32.const 21))))
        (local.set $size (i32.load $module offset=4 (local.get $iovs)))
        (if (i32.gt_u (local.get $size) (local.get $left))
          (then (local.set $size (local.get $left))))
        (memory.copy $module $files
          (i32.load $module (local.get $iovs)) (local.get $source) (local.get $size))
        (local.set $source (i32.add (local.get $source) (local.get $size)))
        (local.set $left (i32.sub (local.get $left) (local.get $size)))
        (local.set $total (i64.add (local.get $total) (i64.extend_i32_u (local.get $size))))
        (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store $module (local.get $read) (i32.wrap_i64 (local.get $total)))
    (i32.const 0)))
"""


class Host(Protocol):
    """What stands behind a gate during one run."""

    files_memory: wasmtime.Memory

    def call(self, name: str, args: Sequence[int]) -> int:
        """Answer an import, integers unsigned: an errno, or ``STOP``. Never raises."""

    def attach(self, memory: wasmtime.Memory) -> None:
        """Take the memory that the calls' pointers are of."""


class _Current(threading.local):
    """The host of the run in this thread."""

    host: Host


class Gate:
    """The gate of one client module, compiled once and instantiated anew for each run."""

    def __init__(self, engine: wasmtime.Engine, imports: Iterable[tuple[str, str]]) -> None:
        """``imports``: name and signature of each, in the order of the client module."""
        self._imports = tuple(imports)
        self._current = _Current()
        self._reader: wasmtime.Module | None = None
        signatures = dict(self._imports)
        if signatures.pop(_PREAD, None) is not None:
            self._reader = _assemble(engine, _READER_WAT)
        linker = wasmtime.Linker(engine)
        for name, signature in signatures.items():
            _define(linker, name, signature, self._current)
        self._gate = linker.instantiate_pre(
            _assemble(engine, _gate_wat(signatures, with_pread=self._reader is not None))
        )

    def run(self, store: wasmtime.Store, module: wasmtime.Module, host: Host) -> None:
        """Run ``module``, whose imports lead through the gate to ``host``, in this thread.

        Raises what Wasmtime raises: ``Trap`` also when the host stopped the run, and
        ``WasmtimeError`` when it could not be started.
        """
        self._current.host = host
        try:
            gate = self._gate.instantiate(store).exports(store)
            imports = [gate[name] for name, _ in self._imports]
            exports = wasmtime.Instance(store, module, imports).exports(store)
            start, memory = exports["_start"], exports["memory"]
            assert isinstance(start, wasmtime.Func)  # the contract has been checked
            assert isinstance(memory, wasmtime.Memory)
            host.attach(memory)
            if self._reader is not None:
                wasmtime.Instance(store, self._reader, [memory, host.files_memory, gate["readers"]])
            start(store)
        finally:
            del self._current.host


def _define(linker: wasmtime.Linker, name: str, signature: str, current: _Current) -> None:
    """Define the host function behind an import. It holds no gate, which would never be freed."""
    types = {"i": wasmtime.ValType.i32(), "I": wasmtime.ValType.i64()}
    masks = {"i": 0xFFFF_FFFF, "I": 0xFFFF_FFFF_FFFF_FFFF}
    params = signature[1 : signature.index(")")]
    param_masks = [masks[letter] for letter in params]

    def call(*values: int) -> int:
        args = [value & mask for value, mask in zip(values, param_masks, strict=True)]
        return current.host.call(name, args)

    func_type = wasmtime.FuncType([types[letter] for letter in params], [types["i"]])
    linker.define_func("host", name, func_type, call)


def _assemble(engine: wasmtime.Engine, wat: str) -> wasmtime.Module:
    return wasmtime.Module(engine, bytes(wasmtime.wat2wasm(wat)))


def _gate_wat(signatures: dict[str, str], *, with_pread: bool) -> str:
    imports: list[str] = []
    functions: list[str] = []
    for name, signature in signatures.items():
        params, _, result = signature[1:].partition(")")
        param_types = _params(params)
        imports.append(f'(import "host" "{name}" (func ${name} {param_types} (result i32)))')
        call = f"(call ${name} {_arguments(params)})"
        # A function without a result, proc_exit, does not return to the module at all.
        functions.append(
            f'(func (export "{name}") {param_types} (result i32) (local $errno i32)'
            f" (local.set $errno {call})"
            " (if (i32.lt_s (local.get $errno) (i32.const 0)) (then unreachable))"
            " (local.get $errno))"
            if result
            else f'(func (export "{name}") {param_types} {call} unreachable)'
        )
    if with_pread:
        params = _PREAD_SIGNATURE[1:].partition(")")[0]
        functions.append(
            f"(type $pread (func {_params(params)} (result i32)))"
            '(table (export "readers") 1 1 funcref)'
            f'(func (export "{_PREAD}") (type $pread)'
            f" (call_indirect (type $pread) {_arguments(params)} (i32.const 0)))"
        )
    return "(module\n" + "\n".join([*imports, *functions]) + ")"


def _params(letters: Sequence[str]) -> str:
    return " ".join(f"(param {_WAT_TYPES[letter]})" for letter in letters)


def _arguments(letters: Sequence[str]) -> str:
    return " ".join(f"(local.get {index})" for index in range(len(letters)))
