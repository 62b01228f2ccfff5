"""How Wasmtime is set up: one place, because compiled code is only valid for its settings."""

from __future__ import annotations

import hashlib
import importlib.metadata

import wasmtime

# Proposals that WAMR on a microcontroller does not run, or that would let results differ between
# machines (threads, relaxed SIMD). Reference types stay on: Wasmtime cannot do without.
_FEATURES_OFF = (
    "wasm_component_model",
    "wasm_custom_page_sizes",
    "wasm_exceptions",
    "wasm_function_references",
    "wasm_gc",
    "wasm_memory64",
    "wasm_relaxed_simd",
    "wasm_simd",
    "wasm_stack_switching",
    "wasm_tail_call",
    "wasm_threads",
    "wasm_wide_arithmetic",
)
_LIMITS_ON = ("consume_fuel", "epoch_interruption")
# It takes a file descriptor for each module of each engine, to save 0.02 ms of an instance.
_COSTLY_OFF = ("memory_init_cow",)


def new_runtime_engine() -> wasmtime.Engine:
    """An engine that meters and can be interrupted, for modules and the gate around them."""
    config = _config()
    for name in _LIMITS_ON:
        setattr(config, name, True)
    for name in _COSTLY_OFF:
        setattr(config, name, False)
    config.wasm_multi_memory = True  # the gate copies between two memories
    return wasmtime.Engine(config)


def new_check_engine() -> wasmtime.Engine:
    """An engine that validates what a client module may use, and runs nothing."""
    config = _config()
    config.wasm_multi_memory = False
    return wasmtime.Engine(config)


def wasmtime_version() -> str:
    """The version of the Wasmtime that runs modules, such as ``50.0.1``."""
    return importlib.metadata.version("wasmtime")


def engine_tag() -> str:
    """Names what compiled code depends on, Wasmtime's version and settings; fit for a file name."""
    settings = repr((_FEATURES_OFF, _LIMITS_ON, _COSTLY_OFF)).encode()
    return f"wasmtime-{wasmtime_version()}-{hashlib.sha256(settings).hexdigest()[:8]}"


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    for name in _FEATURES_OFF:
        setattr(config, name, False)
    return config
