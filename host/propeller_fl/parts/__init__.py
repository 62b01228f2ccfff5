"""Large models on their way: a file in parts, each known by its digest, asked for and answered."""

from __future__ import annotations

from propeller_fl.parts._fetch import Fetch
from propeller_fl.parts._fetcher import Cancelled, Fetcher
from propeller_fl.parts._http import HttpAccess
from propeller_fl.parts._part_file import PartFile
from propeller_fl.parts._serve import Serving
from propeller_fl.parts._server import PartPlace, PartsServer, places_of

__all__ = [
    "Cancelled",
    "Fetch",
    "Fetcher",
    "HttpAccess",
    "PartFile",
    "PartPlace",
    "PartsServer",
    "Serving",
    "places_of",
]
