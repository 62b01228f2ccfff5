"""The client contract as a check: every way to break it is a finding that says what breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propeller_fl.errors import ContractError
from propeller_fl.proplet import Contract, ContractReport, check_module, require_contract
from tests.proplet.modules import client, say, wasm

START = '(func (export "_start"))'
MEMORY = '(memory (export "memory") 1)'
LAYOUT = (
    '(global (export "__heap_base") i32 (i32.const 0))'
    '(global (export "__data_end") i32 (i32.const 0))'
)
WASI = "wasi_snapshot_preview1"


def codes(report: ContractReport, level: str) -> set[str]:
    return {finding.code for finding in report.findings if finding.level == level}


def messages(report: ContractReport) -> str:
    return "\n".join(finding.message for finding in report.findings)


def test_module_that_keeps_the_contract_has_no_finding() -> None:
    report = check_module(wasm(f"(module {MEMORY} {LAYOUT} {START})"))

    assert report.ok
    assert report.findings == ()
    assert report.memory_bytes == 65536


def test_report_lists_imports_in_their_order() -> None:
    text = f'(module (import "{WASI}" "proc_exit" (func (param i32))) {MEMORY} {START})'

    assert check_module(wasm(text)).imports == (f"{WASI}.proc_exit",)


@pytest.mark.parametrize(
    ("module", "name", "type_"),
    [
        (WASI, "clock_time_get", "(func (param i32 i64 i32) (result i32))"),
        (WASI, "random_get", "(func (param i32 i32) (result i32))"),
        (WASI, "sock_accept", "(func (param i32 i32 i32) (result i32))"),
        ("env", "proc_exit", "(func (param i32))"),
        ("env", "memory", "(memory 1)"),
        ("env", "table", "(table 1 funcref)"),
        (WASI, "fd_write", "(global i32)"),
    ],
)
def test_import_that_is_not_allowed_is_named(module: str, name: str, type_: str) -> None:
    memory = "" if type_.startswith("(memory") else MEMORY
    report = check_module(wasm(f'(module (import "{module}" "{name}" {type_}) {memory} {START})'))

    assert "import-not-allowed" in codes(report, "error")
    assert f"{module}.{name}" in messages(report)


def test_every_import_that_is_not_allowed_is_named() -> None:
    imports = f'(import "env" "one" (func)) (import "{WASI}" "two" (func))'

    with pytest.raises(ContractError, match=rf"env\.one .*{WASI}\.two"):
        require_contract(wasm(f"(module {imports} {MEMORY} {START})"))


def test_import_of_another_type_is_an_error() -> None:
    report = check_module(
        wasm(f'(module (import "{WASI}" "fd_write" (func (param i64))) {MEMORY} {START})')
    )

    assert codes(report, "error") == {"import-signature"}
    assert "(I), not (iiii)i" in messages(report)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"(module {MEMORY})", "no-start"),
        (f'(module {MEMORY} (global (export "_start") i32 (i32.const 0)))', "no-start"),
        (f'(module {MEMORY} (func (export "_start") (param i32)))', "start-signature"),
        (f"(module {START})", "no-memory"),
        (f'(module (memory (export "ram") 1) {START})', "no-memory"),
        (f"(module {MEMORY} (memory 1) {START})", "many-memories"),
        (f"(module {MEMORY} {START} (func $early) (start $early))", "start-section"),
        (f'(module {MEMORY} {START} (func (export "__wasm_call_ctors")))', "early-export"),
        (f'(module {MEMORY} {START} (func (export "__post_instantiate")))', "early-export"),
        (f"(module {MEMORY} {START} (func (result v128) (v128.const i64x2 0 0)))", "invalid"),
    ],
)
def test_module_of_the_wrong_form_is_an_error(text: str, code: str) -> None:
    report = check_module(wasm(text))

    assert code in codes(report, "error")
    assert not report.ok


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"(module {MEMORY} {START})", "no-layout"),
        (f'(module (memory (export "memory") 2) {START})', "memory-size"),
        (f"(module {MEMORY} {START} (func (drop (memory.grow (i32.const 1)))))", "memory-grow"),
        (
            f"(module {MEMORY} {START}"
            " (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0))))",
            "not-mvp",
        ),
        (f"(module {MEMORY} {START} (func (result i32 i32) i32.const 0 i32.const 0))", "not-mvp"),
        (f"(module {MEMORY} {START} (func (result externref) ref.null extern))", "not-mvp"),
    ],
)
def test_what_a_microcontroller_may_refuse_is_a_warning(text: str, code: str) -> None:
    report = check_module(wasm(text))

    assert code in codes(report, "warning")
    assert report.ok


def test_constants_and_tables_of_labels_are_not_taken_for_memory_grow() -> None:
    # Each operand holds the byte 0x40, which is also the opcode of memory.grow.
    code = (
        "(drop (i32.const 64)) (drop (i64.const 64)) (drop (f32.const 2)) (drop (f64.const 32))"
        " (block (br_table 0 0 (i32.const 64))) (drop (i32.load offset=64 (i32.const 64)))"
    )
    report = check_module(wasm(f"(module {MEMORY} {START} (func {code}))"))

    assert "memory-grow" not in codes(report, "warning")
    assert not report.grows_memory


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "does not begin as a Wasm module"),
        (b"\x7fELF\x02\x01\x01\0", "does not begin as a Wasm module"),
        (b"  (module)", "text"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x02\0\0\0", "version"),
        (b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f", "too early"),
        (b"\0asm\x01\0\0\0\x01\x80\x80\x80\x80\x80\x01", "more than 32 bits"),
    ],
)
def test_file_that_is_no_module_is_told_apart(image: bytes, words: str) -> None:
    report = check_module(image)

    assert codes(report, "error") == {"not-wasm"}
    assert words in messages(report)


def test_file_too_large_to_compile_is_an_error() -> None:
    assert codes(check_module(bytes(5 * 1024 * 1024)), "error") == {"too-large"}


def test_module_cut_short_anywhere_is_an_error() -> None:
    image = wasm(f"(module {MEMORY} {START})")  # whose last section cannot be missing

    assert check_module(image).ok
    assert [size for size in range(len(image)) if check_module(image[:size]).ok] == []


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_damaged_module_never_raises(at: int, byte: int) -> None:
    image = bytearray(say("hello"))
    image[at % len(image)] = byte

    check_module(bytes(image))


def test_allowed_imports_are_all_there_is() -> None:
    contract = Contract.load()

    assert contract.imports["fd_write"] == "(iiii)i"
    assert not {name for name in contract.imports if "clock" in name or "random" in name}


def test_client_of_these_tests_keeps_the_contract() -> None:
    assert require_contract(client("")).findings == ()
