"""A proplet on a desktop: takes tasks, runs their Wasm module on its own data, sends the update."""

from __future__ import annotations

from propeller_fl.proplet import _task_events as events
from propeller_fl.proplet._board import Board
from propeller_fl.proplet._contents import Content
from propeller_fl.proplet._contract import (
    Contract,
    ContractReport,
    Finding,
    check_module,
    require_contract,
)
from propeller_fl.proplet._data import DataSource, data_source
from propeller_fl.proplet._deadline import wall_clock
from propeller_fl.proplet._files import MAPPED_FROM_BYTES, SteadyPath
from propeller_fl.proplet._generic import GenericRuns, is_generic
from propeller_fl.proplet._host import PropletHost, Seat
from propeller_fl.proplet._lanes import CompiledModule
from propeller_fl.proplet._limits import Limits
from propeller_fl.proplet._registry import Assembly
from propeller_fl.proplet._runs import RunsTasks
from propeller_fl.proplet._runtime import Invocation, RunResult, WasmtimeRuntime
from propeller_fl.proplet._service import Proplet, last_will
from propeller_fl.proplet._stop import Stop
from propeller_fl.proplet._task import DONE_KEPT, MAX_LIVE, MAX_WAIT_S, Tasks
from propeller_fl.proplet._update import Output, prepare_update
from propeller_fl.proplet._workers import Workers

__all__ = [
    "DONE_KEPT",
    "MAPPED_FROM_BYTES",
    "MAX_LIVE",
    "MAX_WAIT_S",
    "Assembly",
    "Board",
    "CompiledModule",
    "Content",
    "Contract",
    "ContractReport",
    "DataSource",
    "Finding",
    "GenericRuns",
    "Invocation",
    "Limits",
    "Output",
    "Proplet",
    "PropletHost",
    "RunResult",
    "RunsTasks",
    "Seat",
    "SteadyPath",
    "Stop",
    "Tasks",
    "WasmtimeRuntime",
    "Workers",
    "check_module",
    "data_source",
    "events",
    "is_generic",
    "last_will",
    "prepare_update",
    "require_contract",
    "wall_clock",
]
