"""Runs a training module on Wasmtime: one call, its bytes out, and no way for it to do harm."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import wasmtime

from propeller_fl.errors import (
    ConfigError,
    LimitExceeded,
    MessageError,
    ModuleError,
    ModuleExit,
    ModuleTrap,
    RequestError,
)
from propeller_fl.proplet._cache import CompileCache
from propeller_fl.proplet._clock import EpochClock
from propeller_fl.proplet._contract import ContractReport, require_contract
from propeller_fl.proplet._engine import engine_tag, new_runtime_engine
from propeller_fl.proplet._files import MAX_FILES_BYTES, files_memory
from propeller_fl.proplet._gate import Exports, Gate
from propeller_fl.proplet._wasi import WasiRun
from propeller_fl.proplet._wasm import PAGE_BYTES, read_module

_log = logging.getLogger(__name__)

_KEPT_MODULES = 16  # compiled modules held in memory
_KEPT_READY = 4  # instances that wait for the next run of their module
_MAX_TABLE_ELEMENTS = 1 << 16
_LIMIT_BOUND = 1 << 53
_UNFIT = re.compile("[\0\ud800-\udfff]")  # JSON can hold them, an environment cannot


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. Exceeding any of them ends the run with ``LimitExceeded``.

    ``fuel`` is about one unit a Wasm instruction: a bound on runaway code, never a measure.
    ``memory_bytes`` is linear memory; a module that asks for more while it runs is told no, as
    Wasm has it, and its failure is then reported as this limit. A value that is not positive, or
    past 2**53, raises ``ConfigError``.
    """

    fuel: int = 100_000_000_000
    wall_time_s: float = 60.0
    memory_bytes: int = 64 * 1024 * 1024
    output_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("fuel", "wall_time_s", "memory_bytes", "output_bytes"):
            value = getattr(self, name)
            if not 0 < value < _LIMIT_BOUND:
                raise ConfigError(f"the limit {name} is {value}, not between 0 and 2**53")


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one run is given: the module's whole environment and the files it finds under ``/fl``.

    ``env``: nothing of the host's own environment is added. ROUND_ID and PROPLET_ID also label the
    log lines. Raises ``MessageError`` (reason ``bad_env``) for what an environment cannot hold.
    ``files``: name (``model``, ``data``) -> bytes, or the path of a regular file. They are copied
    for the run, so it sees them as they were at its start. ``spool``: stdout goes there as it
    comes.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    spool: BinaryIO | None = None

    def __post_init__(self) -> None:
        for name, value in self.env.items():
            if not name or "=" in name or _UNFIT.search(name + value):
                raise MessageError(
                    "bad_env",
                    f"the environment variable {name!r} has no name, '=' in its name, "
                    "a zero byte, or half a character",
                    field=f"env.{name}",
                )


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run that ended well left behind. ``stderr`` is the last 16 KiB of it."""

    stdout: bytes
    stderr: str
    fuel_used: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """A module that keeps the contract, ready to run. Valid only with the runtime that made it."""

    report: ContractReport
    _code: wasmtime.Module = field(repr=False)
    _gate: Gate = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hex digest of the image it was compiled from."""
        return self.report.sha256


_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class _Ready:
    """All of a run that is the same for each of a module: a store of its own, with an instance that
    nothing has run in."""

    store: wasmtime.Store
    files: wasmtime.Memory
    exports: Exports


class WasmtimeRuntime:
    """Compiles and runs client modules. Every method may be called from any thread.

    ``cache_dir`` holds compiled modules between processes (None: only in this one). It is made
    with mode 0700, and not used when it is open to other users.
    Use as a context manager, or call :meth:`close`.
    """

    def __init__(self, cache_dir: Path | None = None) -> None:
        self._engine = new_runtime_engine()
        self._engine_tag = engine_tag()
        self._clock = EpochClock(self._engine)
        self._main_runs = ThreadPoolExecutor(1, thread_name_prefix="wasm-run")
        self._cache = CompileCache(cache_dir) if cache_dir is not None else None
        self._compile_lock = threading.Lock()
        self._modules: collections.OrderedDict[str, CompiledModule] = collections.OrderedDict()
        self._ready_lock = threading.Lock()  # guards the next one
        self._ready: dict[tuple[str, Limits], _Ready] = {}  # the oldest first

    def compile(self, image: bytes) -> CompiledModule:
        """Check a module against the contract and compile it, or take it from the cache.

        Raises ``ContractError``, which names what breaks the contract.
        """
        sha256 = hashlib.sha256(image).hexdigest()
        with self._compile_lock:  # held while compiling: many threads want the same module at once
            module = self._modules.get(sha256)
            if module is None:
                module = self._modules[sha256] = self._compile(image)
                if len(self._modules) > _KEPT_MODULES:
                    self._modules.popitem(last=False)
            self._modules.move_to_end(sha256)
            return module

    def _compile(self, image: bytes) -> CompiledModule:
        report = require_contract(image)
        code = self._load(f"{report.sha256}-{self._engine_tag}", image)
        imports = [(item.name, item.signature) for item in read_module(image).imports]
        return CompiledModule(report, code, Gate(self._engine, imports))

    def _load(self, key: str, image: bytes) -> wasmtime.Module:
        """The compiled code of a module, from the cache on disk if it holds it."""
        cached = self._cache.get(key) if self._cache is not None else None
        if cached is not None:
            try:
                code = wasmtime.Module.deserialize(self._engine, cached)
            except wasmtime.WasmtimeError as error:  # of another Wasmtime build, or another CPU
                _log.warning("cached code of module %s does not fit: %s", key, error)
            else:
                _log.info("module %s loaded from the compile cache", key)
                return code
        code = wasmtime.Module(self._engine, image)
        _log.info("module %s compiled", key)
        if self._cache is not None:
            self._cache.put(key, code.serialize())
        return code

    def run(
        self,
        module: CompiledModule,
        invocation: Invocation,
        limits: Limits = _DEFAULT_LIMITS,
        *,
        leftovers: contextlib.ExitStack | None = None,
    ) -> RunResult:
        """Run a module to its end; the GIL is free while it computes.

        The memory of the run is given back before this returns; or with ``leftovers``, which may
        be closed once what the run yielded is on its way, and then also makes ready for the next
        run of the module.

        Its stderr goes to the log, a record a line. Raises ``ModuleExit`` when it ends with a
        non-zero status (its last line on stderr in the message), ``ModuleTrap``,
        ``LimitExceeded``, ``ModuleError`` when it cannot be started, ``StoreError`` when one of
        its files cannot be read, and ``RequestError`` when the runtime is closed meanwhile.
        """
        if threading.current_thread() is threading.main_thread():
            # Signal handlers run here, and one that raises (Ctrl-C) while Wasmtime calls Python
            # brings the process down. So the main thread only waits.
            try:
                future = self._main_runs.submit(self._run, module, invocation, limits, leftovers)
            except RuntimeError:
                raise RequestError("this Wasm runtime has been closed") from None
            return future.result()
        return self._run(module, invocation, limits, leftovers)

    def _run(
        self,
        module: CompiledModule,
        invocation: Invocation,
        limits: Limits,
        leftovers: contextlib.ExitStack | None,
    ) -> RunResult:
        began = time.monotonic()
        with self._clock.running(), contextlib.ExitStack() as own:
            if module.report.memory_bytes > limits.memory_bytes:
                raise LimitExceeded(
                    "memory",
                    f"the module starts with {module.report.memory_bytes} bytes of memory, "
                    f"the limit is {limits.memory_bytes}",
                )
            ready = self._take_ready(module, limits) or self._make_ready(module, limits)
            store = ready.store
            if leftovers is not None:
                leftovers.callback(self._keep_ready, module, limits)
            (leftovers or own).callback(store.close)
            # The memory of the files is the host's, not the module's.
            _set_limits(store, limits, memory_bytes=MAX_FILES_BYTES)
            wasi = WasiRun(
                store,
                ready.files,
                invocation.env,
                invocation.files,
                limits.output_bytes,
                invocation.spool,
            )
            _set_limits(store, limits, memory_bytes=limits.memory_bytes)
            _set_time(store, limits)
            try:
                self._call(ready, module, wasi, limits)
            finally:
                _log_stderr(wasi.stderr, invocation.env)
            return RunResult(
                stdout=bytes(wasi.stdout),
                stderr=wasi.stderr,
                fuel_used=limits.fuel - store.get_fuel(),
                duration_s=time.monotonic() - began,
            )

    def _take_ready(self, module: CompiledModule, limits: Limits) -> _Ready | None:
        with self._ready_lock:
            return self._ready.pop((module.sha256, limits), None)

    def _make_ready(self, module: CompiledModule, limits: Limits) -> _Ready:
        """Raises ``ModuleError`` or ``ModuleTrap`` when the module cannot be instantiated."""
        store = wasmtime.Store(self._engine)
        try:
            files = files_memory(store)
            _set_limits(store, limits, memory_bytes=limits.memory_bytes)
            _set_time(store, limits)  # of which its data and tables take a little
            return _Ready(store, files, module._gate.join(store, module._code, files))
        except wasmtime.Trap as trap:
            store.close()
            raise _trapped(trap) from None
        except wasmtime.WasmtimeError as error:
            store.close()
            raise ModuleError(f"the module cannot be started: {error}") from error

    def _keep_ready(self, module: CompiledModule, limits: Limits) -> None:
        """Make ready for the next run, which is likely to be of the same module."""
        key = module.sha256, limits
        if key in self._ready or self._clock.closed:
            return
        try:
            ready = self._make_ready(module, limits)
        except (ModuleError, ModuleTrap) as error:  # the next run tries again, and reports it
            _log.debug("not made ready: %s", error)
            return
        with self._ready_lock:
            unwanted = [self._ready.pop(key, None)]
            self._ready[key] = ready
            if self._clock.closed or len(self._ready) > _KEPT_READY:
                unwanted.append(self._ready.pop(next(iter(self._ready))))
        for one in unwanted:
            if one is not None:
                one.store.close()

    def _call(self, ready: _Ready, module: CompiledModule, wasi: WasiRun, limits: Limits) -> None:
        """Call ``_start``; raise what :meth:`run` says it raises."""
        report = module.report
        try:
            module._gate.run(ready.store, ready.exports, wasi)
        except wasmtime.Trap as trap:
            if self._clock.closed and trap.trap_code is wasmtime.TrapCode.INTERRUPT:
                raise RequestError("the run was stopped: its Wasm runtime is closed") from None
            error = _failure(trap, wasi, limits)
            at_limit = report.grows_memory and wasi.memory_bytes > limits.memory_bytes - PAGE_BYTES
            if at_limit and isinstance(error, ModuleExit | ModuleTrap):
                error = LimitExceeded(
                    "memory",
                    f"the module failed with its memory at the limit of {limits.memory_bytes} "
                    f"bytes: {error}",
                )
            if error is not None:
                raise error from None

    def close(self) -> None:
        """Stop the runs under way, which raise ``RequestError``, as any later one does."""
        self._clock.close()
        self._main_runs.shutdown()
        with self._ready_lock:
            unwanted = list(self._ready.values())
            self._ready.clear()
        for ready in unwanted:
            ready.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _set_limits(store: wasmtime.Store, limits: Limits, *, memory_bytes: int) -> None:
    store.set_limits(
        memory_size=memory_bytes,
        table_elements=_MAX_TABLE_ELEMENTS,
        instances=3,  # gate, module, and what answers quickly
    )


def _set_time(store: wasmtime.Store, limits: Limits) -> None:
    store.set_fuel(limits.fuel)
    store.set_epoch_deadline(EpochClock.ticks(limits.wall_time_s))


def _failure(trap: wasmtime.Trap, wasi: WasiRun, limits: Limits) -> BaseException | None:
    """What a trap stands for; None for ``proc_exit(0)``, which ends a run by a trap as well."""
    if wasi.stop_cause is not None:
        return wasi.stop_cause
    last_line = wasi.stderr.strip().rpartition("\n")[2]
    status = wasi.exit_status
    if status is not None:
        said = last_line or "it wrote nothing to stderr"
        message = f"the module ended with status {status}: {said}"
        return ModuleExit(message, status=status) if status else None
    code = trap.trap_code
    if code is wasmtime.TrapCode.OUT_OF_FUEL:
        return LimitExceeded(
            "instructions", f"the module did not end within {limits.fuel} instructions"
        )
    if code is wasmtime.TrapCode.INTERRUPT:
        return LimitExceeded("wall_time", f"the module did not end within {limits.wall_time_s:g} s")
    return _trapped(trap, f"; its last line on stderr: {last_line}" if last_line else "")


def _trapped(trap: wasmtime.Trap, said: str = "") -> ModuleTrap:
    code = trap.trap_code
    what = code.name.lower().replace("_", " ") if code is not None else trap.message
    frames = trap.frames
    where = f" in {frames[0].func_name or f'function {frames[0].func_index}'}" if frames else ""
    return ModuleTrap(f"the module trapped: {what}{where}{said}")


def _log_stderr(stderr: str, env: Mapping[str, str]) -> None:
    labels = {"round_id": env.get("ROUND_ID", ""), "proplet_id": env.get("PROPLET_ID", "")}
    for line in stderr.splitlines():
        _log.info("module: %s", line, extra=labels)
