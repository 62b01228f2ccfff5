"""The modules that come with the package."""

from __future__ import annotations

from importlib.resources import files

NAMES = ("activity", "linear", "softmax")


def image_of(name: str) -> bytes:
    """The bytes of a built-in module."""
    return files("propeller_fl").joinpath("modules", f"{name}.wasm").read_bytes()
