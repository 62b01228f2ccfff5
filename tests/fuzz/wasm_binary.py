"""A Wasm binary in pieces: sections, function bodies, instructions; and numbers in LEB128."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"\0asm\x01\0\0\0"
CUSTOM, CODE, DATA = 0, 10, 11


@dataclass(slots=True)
class Section:
    """``content`` is what follows the size."""

    id: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Instruction:
    """Where one lies in a body: its opcode at ``start``, its operands from there to ``end``."""

    opcode: int
    start: int
    end: int


def split(data: bytes) -> list[Section]:
    """The sections of a module. Raises ``ValueError`` or ``IndexError`` when it has none."""
    if not data.startswith(MAGIC):
        raise ValueError("no module")
    sections = []
    at = len(MAGIC)
    while at < len(data):
        section_id = data[at]
        size, at = read_u32(data, at + 1)
        if size > len(data) - at:
            raise ValueError("a section is cut off")
        sections.append(Section(section_id, data[at : at + size]))
        at += size
    return sections


def join(sections: Sequence[Section]) -> bytes:
    """Undo :func:`split`, with the sizes that the sections have now."""
    return MAGIC + b"".join(
        bytes([section.id]) + u32(len(section.content)) + section.content for section in sections
    )


def bodies(code: bytes) -> list[bytes]:
    """The functions of a code section, without their sizes."""
    count, at = read_u32(code, 0)
    found = []
    for _ in range(count):
        size, at = read_u32(code, at)
        found.append(code[at : at + size])
        at += size
    return found


def code_of(functions: Sequence[bytes]) -> bytes:
    """Undo :func:`bodies`."""
    return u32(len(functions)) + b"".join(u32(len(body)) + body for body in functions)


def instructions(body: bytes) -> Iterator[Instruction]:
    """Those of a body, as long as they can be told apart."""
    count, at = read_u32(body, 0)
    for _ in range(count):  # local variables: count and type
        _, at = read_u32(body, at)
        at += 1
    while at < len(body):
        start, opcode = at, body[at]
        at += 1
        if opcode == 0x0E:  # br_table
            count, at = read_u32(body, at)
            for _ in range(min(count, len(body)) + 1):
                _, at = read_u32(body, at)
        elif opcode == 0x43:
            at += 4
        elif opcode == 0x44:
            at += 8
        elif opcode == 0xFC:
            operation, at = read_u32(body, at)
            for _ in range(_BULK_OPERANDS.get(operation, 0)):
                _, at = read_u32(body, at)
        else:
            for _ in range(_OPERANDS.get(opcode, 0)):
                at = _skip_leb(body, at)
        yield Instruction(opcode, start, at)


def u32(value: int) -> bytes:
    """LEB128, unsigned."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def s64(value: int) -> bytes:
    """LEB128, signed."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def read_u32(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while data[at] >= 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def _skip_leb(data: bytes, at: int) -> int:
    while data[at] >= 0x80:
        at += 1
    return at + 1


_OPERANDS: Final = (
    dict.fromkeys((0x02, 0x03, 0x04, 0x0C, 0x0D, 0x10, 0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2), 1)
    | dict.fromkeys(range(0x20, 0x27), 1)
    | dict.fromkeys((0x11, *range(0x28, 0x3F)), 2)
)
_BULK_OPERANDS: Final = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}
