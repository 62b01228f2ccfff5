"""The task launcher: who is alive, one task for each participant, updates forwarded verbatim."""

from __future__ import annotations

from propeller_fl.manager._fleet import Fleet, Presence, Proplet
from propeller_fl.manager._forward import ForwardCounts
from propeller_fl.manager._images import (
    BuiltinImages,
    Found,
    Image,
    ImageFiles,
    ImageLibrary,
    ImageSource,
    OciImages,
)
from propeller_fl.manager._manager import Manager
from propeller_fl.manager._registry import ImageRegistry, chunks_of

__all__ = [
    "BuiltinImages",
    "Fleet",
    "ForwardCounts",
    "Found",
    "Image",
    "ImageFiles",
    "ImageLibrary",
    "ImageRegistry",
    "ImageSource",
    "Manager",
    "OciImages",
    "Presence",
    "Proplet",
    "chunks_of",
]
