"""The client contract as a check: may this file run on a proplet, and if not, what breaks it."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import wasmtime

from propeller_fl.errors import ConfigError, ContractError
from propeller_fl.proplet._engine import new_check_engine
from propeller_fl.proplet._wasm import PAGE_BYTES, WasmFormatError, WasmModule, read_module

NAMESPACE = "wasi_snapshot_preview1"
"""The one module name that imports may come from."""

MAX_IMAGE_BYTES = 4 * 1024 * 1024
"""A larger file is refused before it is read: compiling is the one step no limit can stop."""

_SMALL_IMAGE_BYTES = 64 * 1024

# What WAMR calls by itself when it instantiates a module, as it calls a start section: before any
# limit holds. Wasmtime does not, so that the runtimes would do different things.
_CALLED_EARLY = ("__post_instantiate", "__wasm_call_ctors")

# FL_IMPORT(fd_read, "(iiii)i"), signatures in WAMR's letters: * and ~ are i32 pointers and lengths.
_IMPORT_LINE = re.compile(
    r'^\s*FL_IMPORT\(\s*"?(\w+)"?\s*,\s*(?:\w+\s*,\s*)?"\(([iIfF*~$]*)\)([iIfF]?)"', re.MULTILINE
)
_POINTERS = str.maketrans("*~$", "iii")


@dataclass(frozen=True, slots=True)
class Contract:
    """What the runtimes offer a module: function name -> signature, as ``(iiii)i``.

    A letter is a type: i = i32, I = i64, f = f32, F = f64.
    """

    imports: Mapping[str, str]

    @classmethod
    def load(cls) -> Self:
        """Read the list that host, firmware and client share, ``fl_imports.h`` in this package.

        Raises ``ConfigError`` when it is missing or holds no import.
        """
        path = importlib.resources.files("propeller_fl").joinpath("modules", "fl_imports.h")
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"the list of allowed imports cannot be read: {error}",
                hint="install the package again",
            ) from error
        imports = {
            name: f"({params.translate(_POINTERS)}){result}"
            for name, params, result in _IMPORT_LINE.findall(text)
        }
        if not imports:
            raise ConfigError(f"{path} lists no import", hint="install the package again")
        return cls(imports)


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about a module. An ``error`` keeps it from running, a ``warning`` does not.

    ``code`` is short and stable (``import-not-allowed``, ``no-start`` …); ``message`` names the
    import, export or size it is about.
    """

    level: Literal["error", "warning"]
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ContractReport:
    """What :func:`check_module` found: errors first, then warnings."""

    sha256: str
    size_bytes: int
    memory_bytes: int
    """Initial linear memory; 0 when the file could not be read that far."""
    grows_memory: bool
    imports: tuple[str, ...]
    """What the module imports, as ``module.name``, in its own order."""
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the module from running."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def ok(self) -> bool:
        """Whether the module may run."""
        return not self.errors


def check_module(image: bytes) -> ContractReport:
    """Check a Wasm file against the client contract.

    Bad bytes are findings, never exceptions. Nothing is compiled or run.
    """
    module: WasmModule | None = None
    findings: list[Finding] = []
    if len(image) > MAX_IMAGE_BYTES:
        findings.append(
            _error("too-large", f"the file has {len(image)} bytes, more than {MAX_IMAGE_BYTES}")
        )
    else:
        try:
            module = read_module(image)
        except WasmFormatError as error:
            findings.append(_error("not-wasm", f"the file {error}"))
        else:
            findings.extend(_findings(image, module))
    return ContractReport(
        sha256=hashlib.sha256(image).hexdigest(),
        size_bytes=len(image),
        memory_bytes=sum(module.memory_bytes) if module else 0,
        grows_memory=module is not None and "memory.grow" in module.features,
        imports=tuple(map(str, module.imports)) if module else (),
        findings=tuple(sorted(findings, key=lambda finding: finding.level)),
    )


def require_contract(image: bytes) -> ContractReport:
    """Return the report of a module that keeps the contract.

    Raises ``ContractError``, which names every import (or other cause) that breaks it.
    """
    report = check_module(image)
    if not report.ok:
        raise ContractError(
            "the module breaks the client contract: "
            + "; ".join(finding.message for finding in report.errors),
            hint="`propeller-fl client check` lists all findings",
        )
    return report


def _error(code: str, message: str) -> Finding:
    return Finding("error", code, message)


def _warning(code: str, message: str) -> Finding:
    return Finding("warning", code, message)


def _findings(image: bytes, module: WasmModule) -> Iterator[Finding]:
    yield from _import_findings(module)
    yield from _export_findings(module)
    yield from _memory_findings(module)
    if module.has_start_section:
        yield _error(
            "start-section",
            "the module has a start section, which would run code before _start is called",
        )
    for feature in sorted(module.features - {"memory.grow"}):
        yield _warning(
            "not-mvp",
            f"the module uses {feature}, which small WAMR builds leave out: build with -mcpu=mvp",
        )
    if len(image) > _SMALL_IMAGE_BYTES:
        yield _warning(
            "large", f"the file has {len(image)} bytes; the reference modules have under 16900"
        )
    try:
        wasmtime.Module.validate(_check_engine(), image)
    except wasmtime.WasmtimeError as error:
        yield _error("invalid", f"the module is not valid: {error}")


def _import_findings(module: WasmModule) -> Iterator[Finding]:
    allowed = _contract().imports
    for item in module.imports:
        expected = allowed.get(item.name) if item.module == NAMESPACE else None
        if item.kind != "function" or expected is None:
            yield _error("import-not-allowed", f"the import {item} ({item.kind}) is not allowed")
        elif item.signature != expected:
            yield _error(
                "import-signature", f"the import {item} has type {item.signature}, not {expected}"
            )


def _export_findings(module: WasmModule) -> Iterator[Finding]:
    if module.start_signature is None:
        yield _error("no-start", "the module exports no function _start: build it as a command")
    elif module.start_signature != "()":
        yield _error("start-signature", f"_start has type {module.start_signature}, not ()")
    for name in _CALLED_EARLY:
        if module.exports.get(name) == "function":
            yield _error(
                "early-export",
                f"the module exports {name}, which WAMR would call before _start: "
                "link it without exporting everything",
            )
    if module.exports.get("memory") != "memory":
        yield _error("no-memory", "the module exports no memory named memory")
    for name in ("__heap_base", "__data_end"):
        if module.exports.get(name) != "global":
            yield _warning(
                "no-layout",
                f"the module does not export {name}, so WAMR cannot shrink its memory: "
                f"link with --export={name}",
            )


def _memory_findings(module: WasmModule) -> Iterator[Finding]:
    if len(module.memory_bytes) > 1:
        yield _error("many-memories", f"the module has {len(module.memory_bytes)} memories, not 1")
    elif module.memory_bytes and module.memory_bytes[0] > PAGE_BYTES:
        yield _warning(
            "memory-size",
            f"the module starts with {module.memory_bytes[0] // 1024} KiB of memory; "
            "a microcontroller has 64 KiB to give, or less",
        )
    if "memory.grow" in module.features:
        yield _warning(
            "memory-grow",
            "the module can grow its memory, which a microcontroller refuses: use static arrays",
        )


@functools.cache
def _contract() -> Contract:
    return Contract.load()


@functools.cache
def _check_engine() -> wasmtime.Engine:
    return new_check_engine()
