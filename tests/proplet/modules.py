"""Tiny client modules, written inline by the tests: one behaviour each."""

from __future__ import annotations

import wasmtime

_IMPORTS = """
  (import "wasi_snapshot_preview1" "environ_get"
    (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread"
    (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""

# Memory: 0..15 is scratch for results and one iovec at 8; texts of a test begin at 64; its buffers
# at 4096. $say writes to a descriptor; $exit_on ends the run with an errno that is not 0.
_HELPERS = """
  (func $exit_on (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
  (func $iovec (param $pointer i32) (param $size i32)
    (i32.store (i32.const 8) (local.get $pointer))
    (i32.store (i32.const 12) (local.get $size)))
  (func $say (param $fd i32) (param $pointer i32) (param $size i32)
    (call $iovec (local.get $pointer) (local.get $size))
    (call $exit_on (call $fd_write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 0))))
  (func $open_for (param $path i32) (param $size i32) (param $flags i32) (param $rights i64)
                  (result i32)
    (call $exit_on (call $path_open (i32.const 3) (i32.const 0) (local.get $path) (local.get $size)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 4)))
    (i32.load (i32.const 4)))
  (func $open (param $path i32) (param $size i32) (result i32)
    (call $open_for (local.get $path) (local.get $size) (i32.const 0) (i64.const 2)))
"""


def wasm(text: str) -> bytes:
    """The binary form of a module in the text format."""
    return bytes(wasmtime.wat2wasm(text))


def client(start: str, *, text: str = "", pages: str = "1", more: str = "") -> bytes:
    """A module that keeps the contract, whose ``_start`` has the body ``start``.

    ``text`` is a string at address 64, in the text format's escapes; ``more`` is put before
    ``_start``.
    """
    return wasm(
        f'(module {_IMPORTS} (memory (export "memory") {pages})'
        ' (global (export "__heap_base") i32 (i32.const 8192))'
        ' (global (export "__data_end") i32 (i32.const 8192))'
        f' (data (i32.const 64) "{text}") {_HELPERS} {more}'
        f' (func (export "_start") {start}))'
    )


def say(text: str, fd: int = 1) -> bytes:
    """A module that writes ``text``, of ASCII characters, and ends."""
    start = f"(call $say (i32.const {fd}) (i32.const 64) (i32.const {len(text)}))"
    return client(start, text=text.replace("\n", "\\n"))


def read_file(path: str, call: str = "fd_read") -> bytes:
    """A module that writes up to 4096 bytes of a file to stdout, read by ``call``."""
    offset = "(i64.const 0)" if call == "fd_pread" else ""
    return client(
        f"(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const {len(path)})))"
        " (call $iovec (i32.const 4096) (i32.const 4096))"
        f" (call $exit_on (call ${call} (local.get $fd) (i32.const 8) (i32.const 1) {offset}"
        " (i32.const 0)))"
        " (call $say (i32.const 1) (i32.const 4096) (i32.load (i32.const 0)))",
        text=path,
    )


ENDLESS = client("(loop $again (br $again))")
SPEND = client(  # a bounded loop, then one line
    "(local $left i32) (local.set $left (i32.const 2000000))"
    " (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    " (call $say (i32.const 1) (i32.const 64) (i32.const 4))",
    text="done",
)

# Writes its arguments, each with a zero byte behind it, as WASI gives them.
ECHO = wasm(
    """(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
      (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global (export "__heap_base") i32 (i32.const 8192))
    (global (export "__data_end") i32 (i32.const 8192))
    (func (export "_start")
      (drop (call $sizes (i32.const 0) (i32.const 4)))
      (drop (call $args (i32.const 64) (i32.const 1024)))
      (i32.store (i32.const 8) (i32.const 1024))
      (i32.store (i32.const 12) (i32.load (i32.const 4)))
      (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"""
)

# Sleeps by the clock at 64: a subscription of 48 bytes with its timeout at 64 + 24; says "up", and
# "serve" logs it too.
SLEEPER = wasm(
    """(module
    (import "wasi_snapshot_preview1" "poll_oneoff"
      (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
      (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global (export "__heap_base") i32 (i32.const 8192))
    (global (export "__data_end") i32 (i32.const 8192))
    (data (i32.const 512) "up\\n")
    (func $tell (param $fd i32)
      (i32.store (i32.const 8) (i32.const 512))
      (i32.store (i32.const 12) (i32.const 3))
      (drop (call $write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16))))
    (func $say (call $tell (i32.const 1)))
    (func $sleep (param $ns i64)
      (i32.store (i32.const 80) (i32.const 1))
      (i64.store (i32.const 88) (local.get $ns))
      (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 20))))
    (func (export "_start") (call $say) (call $sleep (i64.const 3600000000000)))
    (func (export "serve")
      (call $say) (call $tell (i32.const 2)) (call $sleep (i64.const 3600000000000)))
    (func (export "doze") (call $sleep (i64.const 1000000)) (call $say))
    (func (export "chatter") (local $left i32)
      (local.set $left (i32.const 22000))
      (loop $on
        (call $say)
        (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (call $sleep (i64.const 1))
      (loop $on (call $say) (br $on))))"""
)

# What it got, and its bits.
LOOK = wasm(
    '(module (func (export "f32") (param f32) (result f32 i32)'
    "   (local.get 0) (i32.reinterpret_f32 (local.get 0)))"
    ' (func (export "f64") (param f64) (result f64 i64)'
    "   (local.get 0) (i64.reinterpret_f64 (local.get 0))))"
)
