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
    LimitExceeded,
    MessageError,
    ModuleExit,
    ModuleTrap,
    RequestError,
)
from propeller_fl.proplet._cache import CompileCache
from propeller_fl.proplet._clock import RunClock
from propeller_fl.proplet._contract import require_contract
from propeller_fl.proplet._engine import engine_tag, new_runtime_engine
from propeller_fl.proplet._files import MAX_FILES_BYTES
from propeller_fl.proplet._lanes import CompiledModule, Lane, Lanes, Ready, trapped
from propeller_fl.proplet._limits import Limits, set_room, set_time
from propeller_fl.proplet._stop import Stop
from propeller_fl.proplet._wasi import WasiRun
from propeller_fl.proplet._wasm import PAGE_BYTES, read_module

_log = logging.getLogger(__name__)

_KEPT_MODULES = 16  # compiled modules held in memory
_UNFIT = re.compile("[\0\ud800-\udfff]")  # JSON can hold them, an environment cannot


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


_DEFAULT_LIMITS = Limits()


class WasmtimeRuntime:
    """Compiles and runs client modules. Every method may be called from any thread.

    ``cache_dir`` holds compiled modules between processes (None: only in this one). It is made
    with mode 0700, and not used when it is open to other users.
    Use as a context manager, or call :meth:`close`.
    """

    def __init__(self, cache_dir: Path | None = None) -> None:
        self._engine_tag = engine_tag()
        self._clock = RunClock()
        self._lanes = Lanes()
        self._main_runs = ThreadPoolExecutor(1, thread_name_prefix="wasm-run")
        self._cache = CompileCache(cache_dir) if cache_dir is not None else None
        self._compile_lock = threading.Lock()
        self._modules: collections.OrderedDict[str, CompiledModule] = collections.OrderedDict()

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
        code = self._native_code(f"{report.sha256}-{self._engine_tag}", image)
        imports = tuple((item.name, item.signature) for item in read_module(image).imports)
        return CompiledModule(report, imports, code)

    def _native_code(self, key: str, image: bytes) -> bytes:
        """The compiled code of a module, from the cache on disk if it holds it."""
        engine = new_runtime_engine()
        cached = self._cache.get(key) if self._cache is not None else None
        if cached is not None:
            try:
                wasmtime.Module.deserialize(engine, cached)
            except wasmtime.WasmtimeError as error:  # of another Wasmtime build, or another CPU
                _log.warning("cached code of module %s does not fit: %s", key, error)
            else:
                _log.info("module %s loaded from the compile cache", key)
                return cached
        code = bytes(wasmtime.Module(engine, image).serialize())
        _log.info("module %s compiled", key)
        if self._cache is not None:
            self._cache.put(key, code)
        return code

    def run(
        self,
        module: CompiledModule,
        invocation: Invocation,
        limits: Limits = _DEFAULT_LIMITS,
        *,
        stop: Stop | None = None,
        leftovers: contextlib.ExitStack | None = None,
    ) -> RunResult:
        """Run a module to its end, or until ``stop``; the GIL is free while it computes.

        The memory of the run is given back before this returns; or with ``leftovers``, which may
        be closed once what the run yielded is on its way, and then also makes ready for the next
        run of the module.

        Its stderr goes to the log, a record a line. Raises ``ModuleExit`` when it ends with a
        non-zero status (its last line on stderr in the message), ``ModuleTrap``,
        ``LimitExceeded``, ``ModuleError`` when it cannot be started, ``StoreError`` when one of
        its files cannot be read, and ``RequestError`` when it was stopped, or the runtime is closed
        meanwhile.
        """
        stop = stop or Stop()
        if threading.current_thread() is threading.main_thread():
            # Signal handlers run here, and one that raises (Ctrl-C) while Wasmtime calls Python
            # brings the process down. So the main thread only waits.
            try:
                future = self._main_runs.submit(
                    self._run, module, invocation, limits, stop, leftovers
                )
            except RuntimeError:
                raise RequestError("this Wasm runtime has been closed") from None
            return future.result()
        return self._run(module, invocation, limits, stop, leftovers)

    def _run(
        self,
        module: CompiledModule,
        invocation: Invocation,
        limits: Limits,
        stop: Stop,
        leftovers: contextlib.ExitStack | None,
    ) -> RunResult:
        began = time.monotonic()
        with self._clock.running(stop), contextlib.ExitStack() as after:
            if stop.wanted.is_set():
                raise self._stopped()
            if module.report.memory_bytes > limits.memory_bytes:
                raise LimitExceeded(
                    "memory",
                    f"the module starts with {module.report.memory_bytes} bytes of memory, "
                    f"the limit is {limits.memory_bytes}",
                )
            lane = self._lanes.take(module)
            after.callback(self._lanes.put_back, lane)
            ready = lane.instance(limits)
            store = ready.store
            if leftovers is not None:
                after.callback(lane.make_ahead, limits)
            after.callback(store.close)
            # The memory of the files is the host's, not the module's.
            set_room(store, memory_bytes=MAX_FILES_BYTES)
            wasi = WasiRun(
                store,
                ready.files,
                invocation.env,
                invocation.files,
                limits.output_bytes,
                invocation.spool,
            )
            set_room(store, memory_bytes=limits.memory_bytes)
            try:
                self._call(lane, ready, module, wasi, limits, stop)
            finally:
                _log_stderr(wasi.stderr, invocation.env)
            result = RunResult(
                stdout=bytes(wasi.stdout),
                stderr=wasi.stderr,
                fuel_used=limits.fuel - store.get_fuel(),
                duration_s=time.monotonic() - began,
            )
            if leftovers is not None:
                leftovers.enter_context(after.pop_all())
            return result

    def _call(
        self,
        lane: Lane,
        ready: Ready,
        module: CompiledModule,
        wasi: WasiRun,
        limits: Limits,
        stop: Stop,
    ) -> None:
        """Call ``_start``; raise what :meth:`run` says it raises."""
        report = module.report
        set_time(ready.store, limits)  # a tick of the epoch counts from here
        stop.watch(lane.engine)
        try:
            self._clock.limit(stop, limits.wall_time_s)
            lane.gate.run(ready.store, ready.exports, wasi)
        except wasmtime.Trap as trap:
            error = self._failure(trap, wasi, limits, stop)
            at_limit = report.grows_memory and wasi.memory_bytes > limits.memory_bytes - PAGE_BYTES
            if at_limit and isinstance(error, ModuleExit | ModuleTrap):
                error = LimitExceeded(
                    "memory",
                    f"the module failed with its memory at the limit of {limits.memory_bytes} "
                    f"bytes: {error}",
                )
            if error is not None:
                raise error from None
        finally:
            stop.watch(None)

    def _failure(
        self, trap: wasmtime.Trap, wasi: WasiRun, limits: Limits, stop: Stop
    ) -> BaseException | None:
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
        if code is not wasmtime.TrapCode.INTERRUPT:
            return trapped(trap, f"; its last line on stderr: {last_line}" if last_line else "")
        if stop.expired:
            return LimitExceeded(
                "wall_time", f"the module did not end within {limits.wall_time_s:g} s"
            )
        return self._stopped()

    def _stopped(self) -> RequestError:
        why = ": its Wasm runtime is closed" if self._clock.closed else ""
        return RequestError(f"the run was stopped{why}")

    def close(self) -> None:
        """Stop the runs under way, which raise ``RequestError``, as any later one does."""
        self._clock.close()
        self._main_runs.shutdown()
        self._lanes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _log_stderr(stderr: str, env: Mapping[str, str]) -> None:
    labels = {"round_id": env.get("ROUND_ID", ""), "proplet_id": env.get("PROPLET_ID", "")}
    for line in stderr.splitlines():
        _log.info("module: %s", line, extra=labels)
