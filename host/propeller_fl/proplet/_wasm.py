"""Reads what the contract asks about from a Wasm binary: imports, exports, memory, features.

A reader, not a validator: Wasmtime validates. This one never allocates more than the file's own
size, and every count, length and index in the file is checked before it is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

PAGE_BYTES = 65536

_VALUE_TYPES = {0x7F: "i", 0x7E: "I", 0x7D: "f", 0x7C: "F", 0x70: "r", 0x6F: "r"}
_KINDS = ("function", "table", "memory", "global")
_TYPE, _IMPORT, _FUNCTION, _MEMORY, _EXPORT, _START, _CODE = 1, 2, 3, 5, 7, 8, 10


class WasmFormatError(Exception):
    """The bytes are not a Wasm module of the kind this reader knows; the message says where."""


@dataclass(frozen=True, slots=True)
class WasmImport:
    """One import. ``signature`` is ``(params)results``, or empty when it is not a function.

    A letter stands for a type, as in WAMR's native API: i = i32, I = i64, f = f32, F = f64.
    """

    module: str
    name: str
    kind: str
    signature: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class WasmModule:
    """What a module declares. Sizes of memories are initial ones, in bytes."""

    imports: tuple[WasmImport, ...]
    exports: dict[str, str]
    """Name -> kind: ``function``, ``table``, ``memory`` or ``global``."""
    start_signature: str | None
    """Signature of the exported function ``_start``, None without one."""
    memory_bytes: tuple[int, ...]
    has_start_section: bool
    features: frozenset[str]
    """Of ``memory.grow``, ``bulk memory``, ``reference types``, ``multiple values``."""


class _Reader:
    """A cursor over bytes[position:end] that refuses to leave it."""

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    def byte(self) -> int:
        if self.position >= self.end:
            raise WasmFormatError(f"ends too early, at byte {self.position}")
        self.position += 1
        return self.data[self.position - 1]

    def u32(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise WasmFormatError(f"has a number of more than 32 bits at byte {self.position}")

    def skip_leb(self) -> None:
        while self.byte() >= 0x80:
            pass

    def skip(self, count: int) -> int:
        """Step over ``count`` bytes and return where they began."""
        start = self.position
        if count > self.end - start:
            raise WasmFormatError(f"ends too early, at byte {self.end}")
        self.position = start + count
        return start

    def part(self, size: int) -> _Reader:
        start = self.skip(size)
        return _Reader(self.data, start, start + size)

    def name(self) -> str:
        size = self.u32()
        start = self.skip(size)
        try:
            return self.data[start : start + size].decode()
        except UnicodeDecodeError:
            raise WasmFormatError(f"has a name that is not UTF-8 at byte {start}") from None

    def value_types(self) -> str:
        return "".join(_VALUE_TYPES.get(self.byte(), "?") for _ in range(self.u32()))

    def limits_min(self) -> int:
        flags = self.byte()
        if flags & ~1:
            raise WasmFormatError(f"has a shared or 64-bit memory or table at byte {self.position}")
        minimum = self.u32()
        if flags & 1:
            self.u32()
        return minimum


def read_module(data: bytes) -> WasmModule:
    """Read a Wasm binary. Raises ``WasmFormatError``, whose message follows "the file …"."""
    if data[:4] != b"\0asm":
        if data.lstrip()[:1] == b"(":
            raise WasmFormatError("is WebAssembly text, not a binary: assemble it first")
        raise WasmFormatError(
            f"does not begin as a Wasm module does, but with {data[:8].hex(' ')!r}"
        )
    if data[4:8] == b"\x0d\0\x01\0":
        raise WasmFormatError("is a WebAssembly component, not a module: build for wasm32-wasip1")
    if data[4:8] != b"\x01\0\0\0":
        raise WasmFormatError(f"has the unknown Wasm version {data[4:8].hex(' ')!r}")

    types: list[str] = []
    imports: list[WasmImport] = []
    function_types: list[str] = []  # of imported functions first, as function indices count
    memory_bytes: list[int] = []
    exports: dict[str, tuple[str, int]] = {}
    has_start_section = False
    features: set[str] = set()

    def type_at(index: int) -> str:
        if index >= len(types):
            raise WasmFormatError(f"uses type {index} of {len(types)}")
        return types[index]

    file = _Reader(data, 8)
    while file.position < file.end:
        section_id = file.byte()
        section = file.part(file.u32())
        if section_id == _TYPE:
            for _ in range(section.u32()):
                if section.byte() != 0x60:
                    raise WasmFormatError(f"has an unknown type at byte {section.position}")
                params, results = section.value_types(), section.value_types()
                if len(results) > 1:
                    features.add("multiple values")
                types.append(f"({params}){results}")
        elif section_id == _IMPORT:
            for _ in range(section.u32()):
                module, name, kind = section.name(), section.name(), section.byte()
                signature = ""
                if kind == 0:
                    signature = type_at(section.u32())
                    function_types.append(signature)
                elif kind == 1:
                    section.byte()
                    section.limits_min()
                elif kind == 2:
                    memory_bytes.append(section.limits_min() * PAGE_BYTES)
                elif kind == 3:
                    section.skip(2)
                else:
                    raise WasmFormatError(f"imports something of unknown kind {kind}")
                imports.append(WasmImport(module, name, _KINDS[kind], signature))
        elif section_id == _FUNCTION:
            function_types.extend(type_at(section.u32()) for _ in range(section.u32()))
        elif section_id == _MEMORY:
            memory_bytes.extend(section.limits_min() * PAGE_BYTES for _ in range(section.u32()))
        elif section_id == _EXPORT:
            for _ in range(section.u32()):
                name, kind, index = section.name(), section.byte(), section.u32()
                if kind >= len(_KINDS):
                    raise WasmFormatError(f"exports something of unknown kind {kind}")
                exports[name] = (_KINDS[kind], index)
        elif section_id == _START:
            has_start_section = True
        elif section_id == _CODE:
            for _ in range(section.u32()):
                features |= _features_of(section.part(section.u32()))

    start_signature = None
    kind_name, index = exports.get("_start", ("", 0))
    if kind_name == "function":
        if index >= len(function_types):
            raise WasmFormatError(f"exports function {index} of {len(function_types)}")
        start_signature = function_types[index]
    return WasmModule(
        imports=tuple(imports),
        exports={name: kind for name, (kind, _) in exports.items()},
        start_signature=start_signature,
        memory_bytes=tuple(memory_bytes),
        has_start_section=has_start_section,
        features=frozenset(features),
    )


# How many LEB128 numbers follow an instruction; instructions not listed have none. Those with
# other operands (br_table, f32.const, f64.const, select with types, the 0xFC group) are apart.
_OPERANDS = (
    {0x02: 1, 0x03: 1, 0x04: 1, 0x0C: 1, 0x0D: 1, 0x10: 1, 0x11: 2, 0x3F: 1, 0x40: 1}
    | dict.fromkeys(range(0x20, 0x27), 1)
    | dict.fromkeys(range(0x28, 0x3F), 2)
    | {0x41: 1, 0x42: 1, 0xD0: 1, 0xD2: 1}
)
_BULK_OPERANDS = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}
_REFERENCE_OPCODES = frozenset({0x1C, 0x25, 0x26, 0xD0, 0xD1, 0xD2})


def _features_of(code: _Reader) -> set[str]:
    """Which features beyond plain arithmetic one function's code uses."""
    found: set[str] = set()
    for _ in range(code.u32()):  # local variables: count and type
        code.u32()
        code.byte()
    while code.position < code.end:
        opcode = code.byte()
        if opcode == 0x40:
            found.add("memory.grow")
        elif opcode in _REFERENCE_OPCODES:
            found.add("reference types")
        if opcode == 0x0E:  # br_table: a vector of labels, and the default
            for _ in range(code.u32() + 1):
                code.skip_leb()
        elif opcode == 0x1C:  # select with a vector of types
            code.skip(code.u32())
        elif opcode == 0x43:
            code.skip(4)
        elif opcode == 0x44:
            code.skip(8)
        elif opcode == 0xFC:
            operation = code.u32()
            if operation >= 8:
                found.add("bulk memory" if operation <= 14 else "reference types")
            for _ in range(_BULK_OPERANDS.get(operation, 0)):
                code.skip_leb()
        else:
            for _ in range(_OPERANDS.get(opcode, 0)):
                code.skip_leb()
    return found
