"""What one run of a module may use, and how its store is held to it."""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

from propeller_fl.errors import ConfigError

_MAX_TABLE_ELEMENTS = 1 << 16
_LIMIT_BOUND = 1 << 53


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


def set_room(store: wasmtime.Store, *, memory_bytes: int) -> None:
    """Let no memory of a store grow, or begin, beyond this."""
    store.set_limits(
        memory_size=memory_bytes,
        table_elements=_MAX_TABLE_ELEMENTS,
        instances=3,  # gate, module, and what answers quickly
    )


def set_time(store: wasmtime.Store, limits: Limits) -> None:
    """Give a store its fuel, and let one tick of its engine's epoch end what runs in it."""
    store.set_fuel(limits.fuel)
    store.set_epoch_deadline(1)
