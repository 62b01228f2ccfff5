"""Tasks that are part of no round, as Propeller has them: a function, a command, or a daemon.

    name    inputs       module exports     what is done                       results
    ------  -----------  -----------------  ---------------------------------  -------------------
    add     ["3", "5"]   add: (i32 i32)i32  the function is called             "8"
    hello   ["a", "b"]   _start             argv is hello, cli_args, a and b   what it wrote

Where there is no function of the task's name, ``_start``, ``main`` and ``run`` are tried, as
Propeller's proplets do. ``cli_args`` may hold two options of theirs, which are ``wasmtime``'s:
``--invoke NAME`` and ``--env NAME=VALUE``.

A training module is held to the client contract and is not run here. A module of this kind may
import all of WASI preview 1 and finds less in it: arguments, environment, output, clocks and random
numbers. There is no file, and no data of the proplet's: results go to whoever gave the task.

Each run has an engine of its own, by whose epoch it can be stopped.
"""

from __future__ import annotations

import collections
import ctypes
import decimal
import hashlib
import logging
import math
import os
import re
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import wasmtime

from propeller_fl.errors import (
    ContractError,
    LimitExceeded,
    MessageError,
    ModuleError,
    ModuleExit,
    ModuleTrap,
    RequestError,
)
from propeller_fl.proplet._contract import MAX_IMAGE_BYTES, NAMESPACE, Contract
from propeller_fl.proplet._engine import new_runtime_engine
from propeller_fl.proplet._files import files_memory
from propeller_fl.proplet._gate import STOP, Gate
from propeller_fl.proplet._stop import Stop
from propeller_fl.proplet._wasi import WasiRun
from propeller_fl.proplet._wasm import WasmFormatError, WasmModule, read_module
from propeller_fl.wire import Reason, TaskStart

_log = logging.getLogger(__name__)

FALLBACKS: Final = ("_start", "main", "run")
"""What is called where no function has the task's name, the first that there is."""

_FLOAT: Final = re.compile(
    r"[-+]?(([0-9]+[.]?[0-9]*|[.][0-9]+)(e[-+]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE | re.ASCII
)
"""What a board takes for a float too: less than Python does."""

_INITIALIZE: Final = "_initialize"  # of a reactor: to be called before anything else
_KEPT_CODE: Final = 8  # compiled modules, as bytes
_DAEMON_OUTPUT_BYTES: Final = 64 * 1024  # the end of what it wrote
_ENDLESS: Final = 1 << 53
_SUCCESS, _INVAL, _NOSYS = 0, 28, 52
_STDOUT, _DIRECTORY_FD = 1, 3
_REALTIME, _LAST_CLOCK = 0, 3
_EVENT_CLOCK, _ABSOLUTE = 0, 1
_SUBSCRIPTION_BYTES, _EVENT_BYTES = 48, 32
_MAX_SUBSCRIPTIONS: Final = 64
_MAX_RANDOM_BYTES: Final = 1 << 20  # of one call, which cannot be interrupted

# All of WASI preview 1, in the letters of the contract's list.
_WASI: Final = dict(
    item.split(":")
    for item in """
    args_get:(ii)i args_sizes_get:(ii)i clock_res_get:(ii)i clock_time_get:(iIi)i
    environ_get:(ii)i environ_sizes_get:(ii)i fd_advise:(iIIi)i fd_allocate:(iII)i fd_close:(i)i
    fd_datasync:(i)i fd_fdstat_get:(ii)i fd_fdstat_set_flags:(ii)i fd_fdstat_set_rights:(iII)i
    fd_filestat_get:(ii)i fd_filestat_set_size:(iI)i fd_filestat_set_times:(iIIi)i
    fd_pread:(iiiIi)i fd_prestat_dir_name:(iii)i fd_prestat_get:(ii)i fd_pwrite:(iiiIi)i
    fd_read:(iiii)i fd_readdir:(iiiIi)i fd_renumber:(ii)i fd_seek:(iIii)i fd_sync:(i)i
    fd_tell:(ii)i fd_write:(iiii)i path_create_directory:(iii)i path_filestat_get:(iiiii)i
    path_filestat_set_times:(iiiiIIi)i path_link:(iiiiiii)i path_open:(iiiiiIIii)i
    path_readlink:(iiiiii)i path_remove_directory:(iii)i path_rename:(iiiiii)i
    path_symlink:(iiiii)i path_unlink_file:(iii)i poll_oneoff:(iiii)i proc_exit:(i) proc_raise:(i)i
    random_get:(ii)i sched_yield:()i sock_accept:(iii)i sock_recv:(iiiiii)i sock_send:(iiiii)i
    sock_shutdown:(ii)i
    """.split()
)


@dataclass(frozen=True, slots=True)
class _Call:
    """What a task asks for, and what its module has to offer."""

    function: str
    inputs: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    daemon: bool


def is_generic(start: TaskStart, image: bytes) -> bool:
    """Whether a task is to be run here: it is of no round, and asks for more than to run a client
    module, or its module is none."""
    if start.env.get("ROUND_ID"):
        return False
    if start.inputs or start.cli_args or start.daemon:
        return True
    try:
        module = read_module(image)
    except WasmFormatError:
        return False  # whose refusal says why
    exports = module.exports
    named = start.name != "_start" and exports.get(start.name) == "function"
    return named or "_start" not in exports or _imports_more(module)


class GenericRuns:
    """Runs such tasks. Every method may be called from any thread."""

    def __init__(self, *, fuel: int, wall_time_s: float, memory_bytes: int, output_bytes: int):
        self._fuel = fuel
        self._wall_time_s = wall_time_s
        self._memory_bytes = memory_bytes
        self._output_bytes = output_bytes
        self._lock = threading.Lock()
        self._code: collections.OrderedDict[str, bytes] = collections.OrderedDict()

    def run(self, start: TaskStart, image: bytes, stop: Stop) -> str:
        """Run a task to its end and return its results as text.

        A daemon ends when it ends by itself or is stopped, which is a good end for it; its results
        are the last 64 KiB that it wrote. Raises ``ContractError`` for a module that cannot be run,
        ``MessageError`` for inputs that do not fit, ``ModuleExit``, ``ModuleTrap``,
        ``LimitExceeded``, and ``RequestError`` when it was stopped.
        """
        module = _checked(image)
        call = _resolve(start, module)
        engine = new_runtime_engine()
        code = self._compile(engine, image)
        gate = Gate(engine, [(item.name, item.signature) for item in module.imports])
        output_bytes = _DAEMON_OUTPUT_BYTES if call.daemon else self._output_bytes
        timer = None if call.daemon else threading.Timer(self._wall_time_s, stop.expire)
        with wasmtime.Store(engine) as store:
            files = files_memory(store)  # there are none, but for the tables of the gate
            wasi = _GenericWasi(store, files, call, output_bytes, stop.wanted)
            store.set_limits(memory_size=self._memory_bytes, table_elements=1 << 16, instances=3)
            store.set_fuel(_ENDLESS if call.daemon else self._fuel)
            store.set_epoch_deadline(1)
            stop.watch(engine)
            if timer is not None:
                timer.daemon = True
                timer.start()
            results = ""
            try:
                results = gate.call(gate.join(store, code, files), wasi, _caller(store, call))
            except wasmtime.Trap as trap:
                self._judge(trap, wasi, call, stop)
            except wasmtime.WasmtimeError as error:
                raise ModuleError(f"the module cannot be started: {error}") from error
            finally:
                stop.watch(None)
                if timer is not None:
                    timer.cancel()
                for line in wasi.stderr.splitlines():
                    _log.info("module: %s", line, extra={"task_id": start.id})
        return results or bytes(wasi.stdout).decode(errors="replace")

    def _compile(self, engine: wasmtime.Engine, image: bytes) -> wasmtime.Module:
        sha256 = hashlib.sha256(image).hexdigest()
        with self._lock:  # held while compiling: the same module may be wanted more than once
            code = self._code.get(sha256)
            if code is not None:
                self._code.move_to_end(sha256)
                return wasmtime.Module.deserialize(engine, code)
            try:
                module = wasmtime.Module(engine, image)
            except wasmtime.WasmtimeError as error:
                raise ContractError(f"the module is not valid: {error}") from None
            self._code[sha256] = bytes(module.serialize())
            if len(self._code) > _KEPT_CODE:
                self._code.popitem(last=False)
            return module

    def _judge(self, trap: wasmtime.Trap, wasi: WasiRun, call: _Call, stop: Stop) -> None:
        """Raise what a trap stands for, unless it was a good end."""
        if wasi.exit_status is not None:
            if wasi.exit_status == 0:
                return
            said = wasi.stderr.strip().rpartition("\n")[2] or "it wrote nothing to stderr"
            raise ModuleExit(
                f"the module ended with status {wasi.exit_status}: {said}", status=wasi.exit_status
            ) from None
        if wasi.stop_cause is not None:
            raise wasi.stop_cause from None
        if stop.expired:
            raise LimitExceeded(
                "wall_time", f"the module did not end within {self._wall_time_s:g} s"
            ) from None
        if stop.wanted.is_set():
            if call.daemon:
                return
            raise RequestError("the run was stopped") from None
        if trap.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
            raise LimitExceeded(
                "instructions", f"the module did not end within {self._fuel} instructions"
            ) from None
        what = trap.trap_code.name.lower().replace("_", " ") if trap.trap_code else trap.message
        raise ModuleTrap(f"the module trapped in {call.function}: {what}") from None


# --- what is called, and how


def _checked(image: bytes) -> WasmModule:
    """Raises ``ContractError`` for a module that cannot be linked here."""
    if len(image) > MAX_IMAGE_BYTES:
        raise ContractError(f"the module has {len(image)} bytes, more than {MAX_IMAGE_BYTES}")
    try:
        module = read_module(image)
    except WasmFormatError as error:
        raise ContractError(f"the file {error}") from None
    for item in module.imports:
        if item.module != NAMESPACE or _WASI.get(item.name) != item.signature:
            raise ContractError(
                f"the import {item} {item.signature} is not one of WASI preview 1",
                hint="build it for wasm32-wasip1, or without imports",
            )
    if module.has_start_section:
        raise ContractError("the module has a start section, which would run before its limits")
    if module.imports and module.exports.get("memory") != "memory":
        raise ContractError("the module imports WASI, and exports no memory named memory")
    return module


def _imports_more(module: WasmModule) -> bool:
    """Whether it imports what WASI has and the client contract has not."""
    allowed = Contract.load().imports
    return any(
        item.module == NAMESPACE and item.name in _WASI and item.name not in allowed
        for item in module.imports
    )


def _resolve(start: TaskStart, module: WasmModule) -> _Call:
    invoked, env, args = _options(start.cli_args)
    name = invoked or start.name
    functions = [name for name, kind in module.exports.items() if kind == "function"]
    wanted = [name] if invoked else [name, *FALLBACKS]
    function = next((name for name in wanted if name in functions), None)
    if function is None:
        raise ContractError(
            f"the module exports no function {name!r}",
            hint=f"it exports {', '.join(functions[:20]) or 'none'}",
        )
    command = function == "_start"
    return _Call(
        function=function,
        inputs=() if command else start.inputs,
        argv=(start.name or "module", *args, *(start.inputs if command else ())),
        env={**start.env, **env},
        daemon=start.daemon,
    )


def _options(cli_args: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """``--invoke``, ``--env``, and what is left for the module. Raises ``MessageError``."""
    invoked, env, rest = "", {}, list(cli_args)
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option == "--":
            break
        if option not in ("--invoke", "--env"):
            raise MessageError(
                Reason.BAD_FIELD,
                f"cli_args holds the option {option[:80]!r}",
                field="cli_args",
                hint="known: --invoke NAME and --env NAME=VALUE; after -- all is the module's",
            )
        if not equals:
            value = rest.pop(0) if rest else ""
        if option == "--invoke":
            invoked = value
        else:
            name, _, text = value.partition("=")
            env[name] = text
    return invoked, env, rest


def _caller(store: wasmtime.Store, call: _Call) -> Callable[[Any], str]:
    """Calls the function of an instance, given its exports."""

    def run(exports: Any) -> str:
        if call.function != "_start":
            initialize = exports.get(_INITIALIZE)
            if isinstance(initialize, wasmtime.Func):
                initialize(store)
        function = exports[call.function]
        kind = function.type(store)
        values = _values(call, [str(item) for item in kind.params])
        found = function(store, *values)
        if not kind.results:
            return ""
        found = found if isinstance(found, list) else [found]
        return ",".join(
            _as_text(value, str(item)) for value, item in zip(found, kind.results, strict=True)
        )

    return run


def _values(call: _Call, kinds: Sequence[str]) -> list[int | float]:
    if len(call.inputs) != len(kinds):
        raise MessageError(
            Reason.BAD_FIELD,
            f"{call.function} takes {len(kinds)} arguments, and inputs has {len(call.inputs)}",
            field="inputs",
            hint=f"its parameters are ({', '.join(kinds)})",
        )
    return [_value(text, kind) for text, kind in zip(call.inputs, kinds, strict=True)]


def _value(text: str, kind: str) -> int | float:
    """An argument: integers signed or unsigned, as the caller likes."""
    try:
        if kind in ("f32", "f64") and _FLOAT.fullmatch(text):
            return _nearest_f32(text) if kind == "f32" else float(text)
        if kind in ("i32", "i64"):
            bits, value = int(kind[1:]), int(text)
            if -(1 << (bits - 1)) <= value < 1 << bits:
                return value - (1 << bits) if value >= 1 << (bits - 1) else value
    except ValueError:
        pass
    raise MessageError(
        Reason.BAD_FIELD, f"inputs holds {text[:40]!r}, which is no {kind}", field="inputs"
    )


def _nearest_f32(text: str) -> float:
    """The float32 nearest to a decimal.

    By way of the nearest double it would be rounded twice. A double that is not exact is rounded to
    odd instead, which keeps on which side of it the decimal lies (Boldo and Melquiond, "When double
    rounding is odd", 2005).
    """
    double = float(text)
    exact = decimal.Decimal(text)
    if math.isfinite(double) and exact != double and not np.float64(double).view(np.uint64) & 1:
        double = math.nextafter(double, math.inf if exact > double else -math.inf)
    with np.errstate(over="ignore"):
        return float(np.float32(double))


def _as_text(value: Any, kind: str) -> str:
    if kind == "f32":
        return np.format_float_positional(np.float32(value), trim="-")
    if kind == "f64":
        return np.format_float_positional(np.float64(value), trim="-")
    return str(value)


# --- what it may ask of us


class _GenericWasi(WasiRun):
    """The contract's calls without files, and those of the rest that need none. The others are
    answered with NOSYS."""

    def __init__(
        self,
        store: wasmtime.Store,
        files: wasmtime.Memory,
        call: _Call,
        output_bytes: int,
        stop: threading.Event,
    ) -> None:
        super().__init__(store, files, call.env, {}, output_bytes)
        self._fd_close(_DIRECTORY_FD)  # there is none
        self._argv = [arg.encode(errors="replace") + b"\0" for arg in call.argv]
        self._kept_bytes = output_bytes if call.daemon else 0
        self._stop = stop

    def call(self, name: str, args: Sequence[int]) -> int:
        return super().call(name, args) if hasattr(self, f"_{name}") else _NOSYS

    def _args_sizes_get(self, count_out: int, size_out: int) -> int:
        return self._write_sizes(count_out, len(self._argv), size_out, sum(map(len, self._argv)))

    def _args_get(self, pointers: int, buffer: int) -> int:
        self._at(pointers, 4 * len(self._argv))
        self._write(buffer, b"".join(self._argv))
        for arg in self._argv:
            self._write_u32(pointers, buffer)
            pointers += 4
            buffer += len(arg)
        return _SUCCESS

    def _fd_write(self, fd: int, iovs: int, count: int, written_out: int) -> int:
        if self._kept_bytes and fd == _STDOUT:
            written = sum(size for _, size in self._iovs(iovs, count))
            if written <= self._kept_bytes:
                del self.stdout[: max(0, len(self.stdout) + written - self._kept_bytes)]
                self._written = len(self.stdout)
        return super()._fd_write(fd, iovs, count, written_out)

    def _clock_res_get(self, clock: int, resolution_out: int) -> int:
        if clock > _LAST_CLOCK:
            return _INVAL
        self._write(resolution_out, struct.pack("<Q", 1000))
        return _SUCCESS

    def _clock_time_get(self, clock: int, precision: int, time_out: int) -> int:
        if clock > _LAST_CLOCK:
            return _INVAL
        now_ns = time.time_ns() if clock == _REALTIME else time.monotonic_ns()
        self._write(time_out, struct.pack("<Q", now_ns))
        return _SUCCESS

    def _random_get(self, buffer: int, size: int) -> int:
        if size > _MAX_RANDOM_BYTES:
            return _INVAL
        self._write(buffer, os.urandom(size))
        return _SUCCESS

    def _sched_yield(self) -> int:
        time.sleep(0)
        return _SUCCESS

    def _poll_oneoff(self, subscriptions: int, events: int, count: int, count_out: int) -> int:
        """Wait for the first of some clocks. Streams are always ready: there is nothing to read,
        and room to write."""
        if not 0 < count <= _MAX_SUBSCRIPTIONS:
            return _INVAL
        self._at(events, count * _EVENT_BYTES)
        self._at(count_out, 4)
        size = count * _SUBSCRIPTION_BYTES
        listed = ctypes.string_at(self._at(subscriptions, size), size)
        waits: list[tuple[float, bytes]] = []
        for at in range(0, size, _SUBSCRIPTION_BYTES):
            userdata, kind = struct.unpack_from("<QB", listed, at)
            wait_s = 0.0
            if kind == _EVENT_CLOCK:
                clock, timeout_ns, _, flags = struct.unpack_from("<I4xQQH", listed, at + 16)
                now_ns = time.time_ns() if clock == _REALTIME else time.monotonic_ns()
                wait_s = (timeout_ns - (now_ns if flags & _ABSOLUTE else 0)) / 1e9
            waits.append((wait_s, struct.pack("<QHB21x", userdata, _SUCCESS, kind)))
        first_s = min(wait_s for wait_s, _ in waits)
        if self._stop.wait(min(max(0.0, first_s), threading.TIMEOUT_MAX)):
            return STOP
        due = [event for wait_s, event in waits if wait_s <= first_s]
        self._write(events, b"".join(due))
        self._write_u32(count_out, len(due))
        return _SUCCESS
