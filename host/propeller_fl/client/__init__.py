"""Building client modules, the Wasm programs that train."""

from __future__ import annotations

from propeller_fl.client._build import BuiltModule, build_module

__all__ = ["BuiltModule", "build_module"]
