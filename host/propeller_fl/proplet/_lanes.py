"""Where modules run: engines that hold a compiled module each, for one run at a time.

An engine's epoch is all that ends a module which calls nobody, and it ends whatever runs on that
engine. So runs that go on at once have an engine each. One that is free is kept for the next run of
its module, with an instance made ahead: to make both takes longer than a short run.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import wasmtime

from propeller_fl.errors import ModuleError, ModuleTrap
from propeller_fl.proplet._contract import ContractReport
from propeller_fl.proplet._engine import new_runtime_engine
from propeller_fl.proplet._files import files_memory
from propeller_fl.proplet._gate import Exports, Gate
from propeller_fl.proplet._limits import Limits, set_room, set_time

_log = logging.getLogger(__name__)

_KEPT_FREE = 16  # lanes; each takes its module's native code in memory


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """A module that keeps the contract, ready to run."""

    report: ContractReport
    _imports: tuple[tuple[str, str], ...] = field(repr=False)  # name and signature
    _code: bytes = field(repr=False)  # native; for any engine that is set up like ours

    @property
    def sha256(self) -> str:
        """Hex digest of the image it was compiled from."""
        return self.report.sha256


@dataclass(frozen=True, slots=True)
class Ready:
    """All of a run that is the same for each of a module: a store of its own, with an instance that
    nothing has run in."""

    store: wasmtime.Store
    files: wasmtime.Memory
    exports: Exports


class Lane:
    """An engine with one module, which one thread uses at a time."""

    def __init__(self, module: CompiledModule) -> None:
        self.sha256 = module.sha256
        self.engine = new_runtime_engine()
        self.gate = Gate(self.engine, module._imports)
        self._code = wasmtime.Module.deserialize(self.engine, module._code)
        self._ahead: tuple[Limits, Ready] | None = None

    def instance(self, limits: Limits) -> Ready:
        """One that was made ahead for these limits, or a new one; its store is to be closed.

        Raises ``ModuleTrap`` or ``ModuleError`` when the module cannot be instantiated.
        """
        if self._ahead is None or self._ahead[0] != limits:
            return self._instantiate(limits)
        ready, self._ahead = self._ahead[1], None
        return ready

    def make_ahead(self, limits: Limits) -> None:
        """Have an instance for the next run, which is likely to have the same limits."""
        if self._ahead is not None and self._ahead[0] == limits:
            return
        self.close()
        try:
            self._ahead = limits, self._instantiate(limits)
        except (ModuleError, ModuleTrap) as error:  # the next run tries again, and reports it
            _log.debug("not made ready: %s", error)

    def close(self) -> None:
        """Give back the memory of what was made ahead."""
        if self._ahead is not None:
            self._ahead[1].store.close()
            self._ahead = None

    def _instantiate(self, limits: Limits) -> Ready:
        store = wasmtime.Store(self.engine)
        try:
            files = files_memory(store)
            set_room(store, memory_bytes=limits.memory_bytes)
            set_time(store, limits)  # of which its data and tables take a little
            return Ready(store, files, self.gate.join(store, self._code, files))
        except wasmtime.Trap as trap:
            store.close()
            raise trapped(trap) from None
        except wasmtime.WasmtimeError as error:
            store.close()
            raise ModuleError(f"the module cannot be started: {error}") from error


class Lanes:
    """All lanes of a runtime that are free. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Lane] = []  # that used last comes last
        self._closed = False

    def take(self, module: CompiledModule) -> Lane:
        """A lane for one run of a module, to be put back after it."""
        with self._lock:
            for place in reversed(range(len(self._free))):
                if self._free[place].sha256 == module.sha256:
                    return self._free.pop(place)
        return Lane(module)

    def put_back(self, lane: Lane) -> None:
        """Keep a lane for the next run, in place of the one that has been free for longest."""
        unwanted: Lane | None = lane
        with self._lock:
            if not self._closed:
                self._free.append(lane)
                unwanted = self._free.pop(0) if len(self._free) > _KEPT_FREE else None
        if unwanted is not None:
            unwanted.close()

    def close(self) -> None:
        """Keep none from now on."""
        with self._lock:
            self._closed = True
            unwanted, self._free = self._free, []
        for lane in unwanted:
            lane.close()


def trapped(trap: wasmtime.Trap, said: str = "") -> ModuleTrap:
    """What to tell of a trap; ``said`` comes behind it."""
    code = trap.trap_code
    what = code.name.lower().replace("_", " ") if code is not None else trap.message
    frames = trap.frames
    where = f" in {frames[0].func_name or f'function {frames[0].func_index}'}" if frames else ""
    return ModuleTrap(f"the module trapped: {what}{where}{said}")
