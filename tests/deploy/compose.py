"""Reads compose files as far as it takes to see that what they name is there."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
# A default may hold variables itself, but none of ours does.
_VARIABLE = re.compile(
    r"\$\$|\$\{(?P<name>\w+)(?::?(?P<kind>[-?+])(?P<word>[^}]*))?\}|\$(?P<bare>\w+)"
)


@functools.cache  # nobody changes what it gives
def load(file: Path) -> dict[str, Any]:
    document = yaml.safe_load(file.read_text())
    assert isinstance(document, dict), file
    return document


@functools.cache
def example() -> dict[str, str]:
    """The variables of ``.env.example``."""
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name not in found, f"{name} is there twice"
            found[name] = value
    return found


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, keys too; what stands after ``x-`` counts where it is used."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not str(key).startswith("x-"):
                yield str(key)
                yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def variables(document: Any) -> Iterator[tuple[str, str | None]]:
    """Each variable with its default; ``None``: it has none."""
    for text in texts(document):
        for found in _VARIABLE.finditer(text):
            name = found["name"] or found["bare"]
            if name:
                yield name, found["word"] if found["kind"] == "-" else None


def resolved(value: Any, environ: Mapping[str, str]) -> Any:
    """``value`` with all variables replaced."""

    def replace(found: re.Match[str]) -> str:
        name = found["name"] or found["bare"]
        if not name:
            return "$"
        default = found["word"] if found["kind"] == "-" else ""
        return environ.get(name) or default or ""

    if isinstance(value, Mapping):
        return {key: resolved(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, environ) for item in value]
    return _VARIABLE.sub(replace, value) if isinstance(value, str) else value


def mounts(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """``(source, target)``: a path where it begins with ``.`` or ``/``, else a named volume."""
    for mount in service.get("volumes", []):
        if isinstance(mount, Mapping):
            yield str(mount["source"]), str(mount["target"])
        else:
            source, target, *_ = str(mount).split(":")
            yield source, target


def conditions(service: Mapping[str, Any]) -> dict[str, str]:
    """What it waits for, and for what of that."""
    waits = service.get("depends_on", {})
    if isinstance(waits, list):
        return dict.fromkeys(waits, "service_started")
    return {name: str(how["condition"]) for name, how in waits.items()}


def host_ports(service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports", []):
        *_, host, _container = str(port).split(":")
        yield host
