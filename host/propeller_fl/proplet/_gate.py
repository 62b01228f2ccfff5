"""The gate between a module and the host: a generated Wasm module with the allowed imports only.

It is there for three things that host functions in Python cannot do. It stops a run from inside a
call: a negative errno makes it trap. It answers without Python, and so without the GIL, what every
run asks in the same way: ``fd_pread``, which a training loop calls once a row, the environment, and
opening a file by its plain name. And nothing is linked that it does not export.

What it answers from is in a memory of the run's own, of which Python and the gate read the same
bytes. First a slot of 16 bytes for each descriptor (:data:`SLOT`), then where the rest is
(:data:`TABLE`): environment, names of files, the directory's own name. From ``HEADER_BYTES``
on these themselves (:func:`tables`), and then the files.
"""

from __future__ import annotations

import functools
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import wasmtime

from propeller_fl.proplet._contract import NAMESPACE
from propeller_fl.proplet._engine import new_runtime_engine

T = TypeVar("T")
Exports = Mapping[str, Any]

MAX_FDS = 12
"""Descriptors are below this: three streams, the directory, and eight open files."""

MAX_IOVS = 1024
"""Buffers of one call, as POSIX has it: a call into the host cannot be interrupted."""

DIRECTORY = b"/fl"
"""Where a module finds its files: descriptor 3, and the first that a file can have is 4."""

SLOT = struct.Struct("<IIQ")
"""A descriptor: start and size of an open file, and where it is read next; or 0 and the errno of
reading what is none."""

TABLE = struct.Struct("<IIIIIII")
"""Number, bytes and address of the environment, address of its offsets (u32 each); number and
address of the file names; address of ``DIRECTORY``."""

NAME = struct.Struct("<IIII")
"""A file that is there to be opened: address and size of its name, start and size of itself."""

HEADER_BYTES = MAX_FDS * SLOT.size + TABLE.size

OPEN_DIRECTORY_ERRNO = 31
"""ISDIR: of slot 3 for as long as the module has not closed it."""

WRITE_RIGHTS = 1 << 6 | 1 << 8 | 1 << 22
"""Of WASI: to write, to allocate, to set the size. Nothing is opened with any of these."""

STOP = -1
"""What a host function returns to end the run."""

_KEPT_CODE = 32  # compiled gates, one for each list of imports

_ASK = -2  # the answer of a quick function that leaves the call to the host

# In the order of the table in which they are. Each needs the module's memory, which exists only
# after the module has been linked to the gate: so the gate calls them through a table, and a module
# of their own fills it in afterwards. All but fd_pread answer only what succeeds: for the rest, and
# its errnos, there is one place, the host.
_PREAD = "fd_pread"
_QUICK = dict.fromkeys(
    (
        _PREAD,
        "environ_sizes_get",
        "environ_get",
        "fd_prestat_get",
        "fd_prestat_dir_name",
        "path_open",
    )
)
_WAT_TYPES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}
_TABLE_AT = MAX_FDS * SLOT.size
_ENV_COUNT, _ENV_BYTES, _ENV, _ENV_OFFSETS, _NAME_COUNT, _NAMES, _DIRECTORY = (
    f"(i32.load $files (i32.const {_TABLE_AT + 4 * place}))" for place in range(7)
)
_SLOT_BITS = SLOT.size.bit_length() - 1

# Errnos: 8 BADF, 21 FAULT, 28 INVAL.
_QUICK_WAT = f"""
(module
  (import "module" "memory" (memory $module 0))
  (import "host" "files" (memory $files 1))
  (import "{NAMESPACE}" "quick" (table {len(_QUICK)} {len(_QUICK)} funcref))
  (elem (i32.const 0) {" ".join(f"${name}" for name in _QUICK)})

  (func $outside (param $address i32) (param $size i64) (result i32)
    (i64.gt_u
      (i64.add (i64.extend_i32_u (local.get $address)) (local.get $size))
      (i64.shl (i64.extend_i32_u (memory.size $module)) (i64.const 16))))

  (func $iov_outside (param $iov i32) (result i32)
    (call $outside
      (i32.load $module (local.get $iov))
      (i64.load32_u $module offset=4 (local.get $iov))))

  (func $is_directory (param $fd i32) (result i32)
    (i32.and
      (i32.eq (local.get $fd) (i32.const 3))
      (i32.eq (i32.load $files (i32.const {3 * SLOT.size + 4}))
              (i32.const {OPEN_DIRECTORY_ERRNO}))))

  (func $environ_sizes_get (param $count_out i32) (param $size_out i32) (result i32)
    (if (i32.or (call $outside (local.get $count_out) (i64.const 4))
                (call $outside (local.get $size_out) (i64.const 4)))
      (then (return (i32.const {_ASK}))))
    (i32.store $module (local.get $count_out) {_ENV_COUNT})
    (i32.store $module (local.get $size_out) {_ENV_BYTES})
    (i32.const 0))

  (func $environ_get (param $pointers i32) (param $buffer i32) (result i32)
    (local $left i32) (local $offset i32)
    (local.set $left {_ENV_COUNT})
    (local.set $offset {_ENV_OFFSETS})
    (if (i32.or
          (call $outside (local.get $pointers)
            (i64.shl (i64.extend_i32_u (local.get $left)) (i64.const 2)))
          (call $outside (local.get $buffer) (i64.extend_i32_u {_ENV_BYTES})))
      (then (return (i32.const {_ASK}))))
    (memory.copy $module $files (local.get $buffer) {_ENV} {_ENV_BYTES})
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (i32.store $module (local.get $pointers)
          (i32.add (local.get $buffer) (i32.load $files (local.get $offset))))
        (local.set $pointers (i32.add (local.get $pointers) (i32.const 4)))
        (local.set $offset (i32.add (local.get $offset) (i32.const 4)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  (func $fd_prestat_get (param $fd i32) (param $out i32) (result i32)
    (if (i32.or (i32.eqz (call $is_directory (local.get $fd)))
                (call $outside (local.get $out) (i64.const 8)))
      (then (return (i32.const {_ASK}))))
    (i32.store $module (local.get $out) (i32.const 0))
    (i32.store $module offset=4 (local.get $out) (i32.const {len(DIRECTORY)}))
    (i32.const 0))

  (func $fd_prestat_dir_name (param $fd i32) (param $path i32) (param $size i32) (result i32)
    (if (i32.or (i32.eqz (call $is_directory (local.get $fd)))
          (i32.or (call $outside (local.get $path) (i64.extend_i32_u (local.get $size)))
                  (i32.lt_u (local.get $size) (i32.const {len(DIRECTORY)}))))
      (then (return (i32.const {_ASK}))))
    (memory.copy $module $files (local.get $path) {_DIRECTORY} (i32.const {len(DIRECTORY)}))
    (i32.const 0))

  (func $is_name (param $name i32) (param $path i32) (param $left i32) (result i32)
    (block $differ
      (loop $next
        (if (i32.eqz (local.get $left)) (then (return (i32.const 1))))
        (br_if $differ (i32.ne (i32.load8_u $files (local.get $name))
                               (i32.load8_u $module (local.get $path))))
        (local.set $name (i32.add (local.get $name) (i32.const 1)))
        (local.set $path (i32.add (local.get $path) (i32.const 1)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  (func $path_open (param $dir_fd i32) (param $lookup i32) (param $path i32) (param $size i32)
                   (param $flags i32) (param $rights i64) (param $inherited i64)
                   (param $fd_flags i32) (param $fd_out i32) (result i32)
    (local $left i32) (local $entry i32) (local $fd i32) (local $slot i32)
    (if (i32.or
          (i32.or (i32.eqz (call $is_directory (local.get $dir_fd))) (local.get $flags))
          (i32.or (call $outside (local.get $path) (i64.extend_i32_u (local.get $size)))
                  (call $outside (local.get $fd_out) (i64.const 4))))
      (then (return (i32.const {_ASK}))))
    (if (i64.ne (i64.and (local.get $rights) (i64.const {WRITE_RIGHTS})) (i64.const 0))
      (then (return (i32.const {_ASK}))))

    (local.set $left {_NAME_COUNT})
    (local.set $entry {_NAMES})
    (block $found
      (loop $next
        (if (i32.eqz (local.get $left)) (then (return (i32.const {_ASK}))))
        (if (i32.eq (i32.load $files offset=4 (local.get $entry)) (local.get $size))
          (then (br_if $found (call $is_name
            (i32.load $files (local.get $entry)) (local.get $path) (local.get $size)))))
        (local.set $entry (i32.add (local.get $entry) (i32.const {NAME.size})))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))

    (local.set $fd (i32.const 4))
    (block $free
      (loop $next
        (if (i32.ge_u (local.get $fd) (i32.const {MAX_FDS}))
          (then (return (i32.const {_ASK}))))
        (local.set $slot (i32.shl (local.get $fd) (i32.const {_SLOT_BITS})))
        (br_if $free (i32.eqz (i32.load $files (local.get $slot))))
        (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
        (br $next)))
    (i64.store $files (local.get $slot) (i64.load $files offset=8 (local.get $entry)))
    (i64.store $files offset=8 (local.get $slot) (i64.const 0))
    (i32.store $module (local.get $fd_out) (local.get $fd))
    (i32.const 0))

  (func $fd_pread (param $fd i32) (param $iovs i32) (param $count i32) (param $offset i64)
                  (param $read i32) (result i32)
    (local $source i32) (local $left i32) (local $size i32) (local $total i64)
    (local $iov i32) (local $n i32)

    (if (i32.ge_u (local.get $fd) (i32.const {MAX_FDS})) (then (return (i32.const 8))))
    (local.set $source (i32.load $files (i32.shl (local.get $fd) (i32.const {_SLOT_BITS}))))
    (local.set $left (i32.load $files offset=4 (i32.shl (local.get $fd) (i32.const {_SLOT_BITS}))))
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

    def call(self, name: str, args: Sequence[int]) -> int:
        """Answer an import, integers unsigned: an errno, or ``STOP``. Never raises."""

    def attach(self, memory: wasmtime.Memory) -> None:
        """Take the memory that the calls' pointers are of."""


def tables_bytes(environ: Sequence[bytes], names: Iterable[bytes]) -> int:
    """The size of what :func:`tables` makes of them."""
    names = list(names)
    fixed = 4 * len(environ) + NAME.size * len(names) + len(DIRECTORY)
    return fixed + sum(map(len, environ)) + sum(map(len, names))


def tables(environ: Sequence[bytes], files: Mapping[bytes, tuple[int, int]]) -> bytes:
    """What :data:`TABLE` tells of, and that itself: from the end of the slots to the first file.

    ``environ``: each ``NAME=value`` and a zero byte. ``files``: start and size of each by name.
    """
    at = HEADER_BYTES
    offsets, end = [], 0
    for entry in environ:
        offsets.append(end)
        end += len(entry)
    env_at = at + 4 * len(offsets)
    names_at = env_at + end
    plain = {name: file for name, file in files.items() if _is_plain(name)}
    name_at = names_at + NAME.size * len(plain)
    entries = []
    for name, (start, size) in plain.items():
        entries.append(NAME.pack(name_at, len(name), start, size))
        name_at += len(name)
    table = TABLE.pack(len(offsets), end, env_at, at, len(plain), names_at, name_at)
    packed_offsets = struct.pack(f"<{len(offsets)}I", *offsets)
    return b"".join([table, packed_offsets, *environ, *entries, *plain, DIRECTORY])


def _is_plain(name: bytes) -> bool:
    """Whether a path of just these bytes is sure to mean the file."""
    return b"/" not in name and name not in (b"", b".", b"..")


class _Current(threading.local):
    """The host of the run in this thread."""

    host: Host


class Gate:
    """The gate of one client module in one engine, instantiated anew for each run."""

    def __init__(self, engine: wasmtime.Engine, imports: Iterable[tuple[str, str]]) -> None:
        """``engine``: by ``new_runtime_engine``. ``imports``: name and signature of each, all of
        them in ``NAMESPACE``."""
        signatures = dict(imports)
        self._engine = engine
        self._current = _Current()
        self._quick: wasmtime.Module | None = None
        if not _QUICK.keys().isdisjoint(signatures):
            self._quick = _assemble(engine, _QUICK_WAT)
        linker = wasmtime.Linker(engine)
        for name, signature in signatures.items():
            if name != _PREAD:
                _define(linker, name, signature, self._current)
        self._gate = linker.instantiate_pre(_assemble(engine, _gate_wat(signatures)))

    def join(
        self, store: wasmtime.Store, module: wasmtime.Module, files: wasmtime.Memory
    ) -> Exports:
        """Instantiate ``module``, its imports led through the gate. None of its functions runs.

        Raises ``WasmtimeError`` or ``Trap`` when it cannot be instantiated.
        """
        # A linker joins instances without a look of Python at each of their exports.
        linker = wasmtime.Linker(self._engine)
        linker.define_instance(store, NAMESPACE, self._gate.instantiate(store))
        instance = linker.instantiate(store, module)
        if self._quick is not None:
            linker.define_instance(store, "module", instance)
            linker.define(store, "host", "files", files)
            linker.instantiate(store, self._quick)
        return instance.exports(store)

    def run(self, store: wasmtime.Store, exports: Exports, host: Host) -> None:
        """Run what :meth:`join` made, with ``host`` behind the gate, in this thread.

        Raises ``Trap``, also when the host stopped the run.
        """

        def call_start(exports: Exports) -> None:
            start = exports["_start"]
            assert isinstance(start, wasmtime.Func)  # the contract has been checked
            start(store)

        self.call(exports, host, call_start)

    def call(self, exports: Exports, host: Host, use: Callable[[Exports], T]) -> T:
        """As :meth:`run`, but let ``use`` do what is to be done with the module's exports."""
        self._current.host = host
        try:
            memory = exports.get("memory")
            if isinstance(memory, wasmtime.Memory):
                host.attach(memory)
            return use(exports)
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
    return wasmtime.Module.deserialize(engine, _native_code(wat))


@functools.lru_cache(_KEPT_CODE)
def _native_code(wat: str) -> bytes:
    """What a module in the text format is compiled to, for any engine that is set up like ours:
    each needs its gate, and to compile one takes longer than all else about it."""
    module = wasmtime.Module(new_runtime_engine(), bytes(wasmtime.wat2wasm(wat)))
    return bytes(module.serialize())


def _gate_wat(signatures: Mapping[str, str]) -> str:
    imports: list[str] = []
    functions: list[str] = []
    for name, signature in signatures.items():
        params, _, result = signature[1:].partition(")")
        param_types = _params(params)
        if name != _PREAD:
            imports.append(f'(import "host" "{name}" (func ${name} {param_types} (result i32)))')
        call = f"(call ${name} {_arguments(params)})"
        if name in _QUICK:
            functions.append(_quick_wat(name, params, call if name != _PREAD else "unreachable"))
            continue
        # A function without a result, proc_exit, does not return to the module at all.
        functions.append(
            f'(func (export "{name}") {param_types} (result i32) (local $errno i32)'
            f" (local.set $errno {call})"
            " (if (i32.lt_s (local.get $errno) (i32.const 0)) (then unreachable))"
            " (local.get $errno))"
            if result
            else f'(func (export "{name}") {param_types} {call} unreachable)'
        )
    if not _QUICK.keys().isdisjoint(signatures):
        functions.append(f'(table (export "quick") {len(_QUICK)} {len(_QUICK)} funcref)')
    return "(module\n" + "\n".join([*imports, *functions]) + ")"


def _quick_wat(name: str, params: str, ask: str) -> str:
    """The quick function's answer; where it has none, what ``ask`` says."""
    index = list(_QUICK).index(name)
    return (
        f"(type $quick-{name} (func {_params(params)} (result i32)))"
        f'(func (export "{name}") (type $quick-{name}) (local $errno i32)'
        f" (local.set $errno (call_indirect (type $quick-{name}) {_arguments(params)}"
        f" (i32.const {index})))"
        f" (if (i32.eq (local.get $errno) (i32.const {_ASK}))"
        f" (then (local.set $errno {ask})))"
        " (if (i32.lt_s (local.get $errno) (i32.const 0)) (then unreachable))"
        " (local.get $errno))"
    )


def _params(letters: Sequence[str]) -> str:
    return " ".join(f"(param {_WAT_TYPES[letter]})" for letter in letters)


def _arguments(letters: Sequence[str]) -> str:
    return " ".join(f"(local.get {index})" for index in range(len(letters)))
