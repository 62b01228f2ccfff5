"""Changes Wasm modules so that many stay valid: other instructions of the same type, other
constants, other sections, with all sizes made right again; and some byte by byte."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Final

from tests.fuzz.mutate import byte_mutator
from tests.fuzz.target import MAX_INPUT_BYTES
from tests.fuzz.wasm_binary import (
    CODE,
    CUSTOM,
    DATA,
    Instruction,
    Section,
    bodies,
    code_of,
    instructions,
    join,
    s64,
    split,
    u32,
)

_WHOLE_SHARE: Final = 0.1  # of changes that look at no structure
_GENTLE_SHARE: Final = 0.6  # of the others: that leave most modules valid
_ChangeInstruction = Callable[[random.Random, Instruction, bytes], bytes | None]
_RAW: Final = byte_mutator(
    [b"\x0b", b"\x00", b"\x40", b"\x41\x00", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x04", b"_start"]
    + [b"memory", b"__heap_base", b"__data_end", b"__wasm_call_ctors", b"wasi_snapshot_preview1"]
)


def mutate_wasm(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """See :class:`tests.fuzz.target.Mutate`."""
    try:
        sections = split(data)
        if not sections or rng.random() < _WHOLE_SHARE:
            return _RAW(rng, data, other)
        changes = _GENTLE if rng.random() < _GENTLE_SHARE else _CHANGES
        for _ in range(rng.choice((1, 1, 2, 4))):
            rng.choice(changes)(rng, sections, other)
    except (ValueError, IndexError):  # damaged before: its parts cannot be told apart
        return _RAW(rng, data, other)
    return join(sections)[:MAX_INPUT_BYTES]


# sections


def _change_content(rng: random.Random, sections: list[Section], other: bytes) -> None:
    section = rng.choice(sections)
    section.content = _RAW(rng, section.content, other)


def _change_number(rng: random.Random, sections: list[Section], other: bytes) -> None:
    """Where a number may be, in anything but code."""
    section = rng.choice([one for one in sections if one.id != CODE] or sections)
    if section.content:
        at = rng.randrange(len(section.content))
        number = _unsigned(rng)
        section.content = section.content[:at] + number + section.content[at + 1 :]


def _rearrange(rng: random.Random, sections: list[Section], other: bytes) -> None:
    at = rng.randrange(len(sections))
    match rng.randrange(5):
        case 0:
            del sections[at]
        case 1:
            sections.insert(rng.randint(0, len(sections)), sections[at])
        case 2:
            sections.insert(at, sections.pop(rng.randrange(len(sections))))
        case 3:
            sections.insert(at, Section(CUSTOM, b"\x04name" + rng.randbytes(rng.randint(0, 30))))
        case _:
            borrowed = rng.choice(split(other))
            same = [i for i, one in enumerate(sections) if one.id == borrowed.id]
            sections[same[0] if same else at] = borrowed


def _change_data(rng: random.Random, sections: list[Section], other: bytes) -> None:
    """Bytes of the data segments: what the module computes with."""
    for section in sections:
        if section.id == DATA and len(section.content) > 8:
            content = bytearray(section.content)
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(6, len(content))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            section.content = bytes(content)


# code


def _change_code(rng: random.Random, sections: list[Section], other: bytes) -> None:
    _change_bodies(rng, sections, (_twin, _offset, _leave_out, _say_twice, _raw))


def _change_operations(rng: random.Random, sections: list[Section], other: bytes) -> None:
    """What is computed, and not the types of it."""
    _change_bodies(rng, sections, (_twin, _twin, _constant))


def _change_bodies(
    rng: random.Random, sections: list[Section], ways: Sequence[_ChangeInstruction]
) -> None:
    for section in sections:
        if section.id == CODE:
            functions = bodies(section.content)
            for _ in range(rng.choice((1, 1, 2, 5))):
                at = rng.randrange(len(functions))
                functions[at] = _changed_body(rng, functions[at], rng.choice(ways))
            section.content = code_of(functions)


def _changed_body(rng: random.Random, body: bytes, change: _ChangeInstruction) -> bytes:
    known = list(instructions(body))
    for _ in range(8):  # not every instruction can be changed in every way
        if not known:
            break
        one = rng.choice(known)
        piece = change(rng, one, body[one.start : one.end])
        if piece is not None:
            return body[: one.start] + piece + body[one.end :]
    return body


def _twin(rng: random.Random, one: Instruction, code: bytes) -> bytes | None:
    """Another instruction of the same type: the module stays valid."""
    for group in _SAME_TYPE:
        if one.opcode in group:
            return bytes([rng.choice(group)]) + code[1:]
    if one.opcode == 0xFC and code[1] < 8:
        return bytes([0xFC, code[1] ^ 1])
    return None


def _constant(rng: random.Random, one: Instruction, code: bytes) -> bytes | None:
    match one.opcode:
        case 0x41:
            return b"\x41" + s64(_signed(rng, 32))
        case 0x42:
            return b"\x42" + s64(_signed(rng, 64))
        case 0x43:
            return b"\x43" + struct.pack("<I", rng.choice(_FLOATS32))
        case 0x44:
            return b"\x44" + struct.pack("<Q", rng.choice(_FLOATS64))
    return None


def _offset(rng: random.Random, one: Instruction, code: bytes) -> bytes | None:
    """Of a load or a store; or the number of a local, global, label or function."""
    if 0x28 <= one.opcode <= 0x3E:
        return bytes([one.opcode, rng.choice((0, 0, 1, 2, 3, 4))]) + _unsigned(rng)
    if one.opcode in (0x0C, 0x0D, 0x10, *range(0x20, 0x25)):
        return bytes([one.opcode]) + u32(rng.choice((0, 1, 2, 3, 9)))
    return None


def _leave_out(rng: random.Random, one: Instruction, code: bytes) -> bytes | None:
    return b"\x01" if one.opcode not in _STRUCTURE else None


def _say_twice(rng: random.Random, one: Instruction, code: bytes) -> bytes | None:
    return code * 2


def _raw(rng: random.Random, one: Instruction, code: bytes) -> bytes | None:
    return _RAW(rng, code, code)


_Change = Callable[[random.Random, list[Section], bytes], None]
_GENTLE: Final[Sequence[_Change]] = (_change_operations, _change_operations, _change_data)
_CHANGES: Final[Sequence[_Change]] = (
    _change_code,
    _change_code,
    _change_code,
    _change_content,
    _change_number,
    _change_data,
    _rearrange,
)

_STRUCTURE: Final = (0x02, 0x03, 0x04, 0x05, 0x0B)
_SAME_TYPE: Final[Sequence[Sequence[int]]] = (
    (0x02, 0x03),  # block, loop
    (0x0C, 0x0F),  # br, return
    (0x20, 0x23),  # local.get, global.get
    (0x45, 0x67, 0x68, 0x69, 0xC0, 0xC1),  # i32 → i32
    range(0x46, 0x50),  # i32 i32 → i32: comparisons
    range(0x6A, 0x79),
    (0x50, 0xA7),  # i64 → i32
    range(0x51, 0x5B),  # i64 i64 → i32
    (0x79, 0x7A, 0x7B, 0xC2, 0xC3, 0xC4),  # i64 → i64
    range(0x7C, 0x8B),
    range(0x5B, 0x61),  # f32 f32 → i32
    range(0x61, 0x67),  # f64 f64 → i32
    range(0x8B, 0x92),  # f32 → f32
    range(0x92, 0x99),
    range(0x99, 0xA0),  # f64 → f64
    range(0xA0, 0xA7),
    (0xA8, 0xA9, 0xBC),  # f32 → i32
    (0xAA, 0xAB),  # f64 → i32
    (0xAC, 0xAD),  # i32 → i64
    (0xAE, 0xAF),  # f32 → i64
    (0xB0, 0xB1, 0xBD),  # f64 → i64
    (0xB2, 0xB3, 0xBE),  # i32 → f32
    (0xB4, 0xB5),  # i64 → f32
    (0xB7, 0xB8),  # i32 → f64
    (0xB9, 0xBA, 0xBF),  # i64 → f64
    (0x28, 0x2C, 0x2D, 0x2E, 0x2F),  # i32 loads
    (0x29, *range(0x30, 0x36)),  # i64 loads
    (0x36, 0x3A, 0x3B),  # i32 stores
    (0x37, 0x3C, 0x3D, 0x3E),  # i64 stores
)
_EDGES: Final = (0, 1, 2, 7, 8, 31, 32, 63, 64, 255, 256, 4095, 65535, 65536, 2**31 - 1, 2**31)
_FLOATS32: Final = (
    *(0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000),
    *(0x7FA00000, 0x7F7FFFFF, 1, 0x80000001, 0x00800000, 0x4F000000, 0xCF000000, 0x4F800000),
    *(0x3F000000, 0x40200000, 0x5F000000, 0x33D6BF95),
)
_FLOATS64: Final = (
    *(0, 1 << 63, 0x3FF0000000000000, 0xBFF0000000000000, 0x7FF0000000000000, 0xFFF0000000000000),
    *(0x7FF8000000000000, 0xFFF8000000000000, 0x7FF4000000000000, 0x7FEFFFFFFFFFFFFF, 1),
    *(0x41E0000000000000, 0xC1E0000000200000, 0x41F0000000000000, 0x43E0000000000000),
    *(0x3FE0000000000000, 0x4004000000000000, 0x47EFFFFFE0000000, 0x36A0000000000000),
)


def _unsigned(rng: random.Random) -> bytes:
    value = rng.choice((*_EDGES, 2**32 - 1, 2**32 - 4, rng.randrange(200)))
    return u32(value)


def _signed(rng: random.Random, bits: int) -> int:
    edge = rng.choice((*_EDGES, 2**63 - 1, 2**62, 2**32, rng.randrange(1000)))
    value = rng.choice((edge, -edge, -edge - 1)) % (1 << bits)
    return value - (1 << bits) if value >> (bits - 1) else value
