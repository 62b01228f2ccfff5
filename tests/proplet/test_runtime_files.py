"""What a module can see of its host: its environment and its files, to read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from propeller_fl.errors import ModuleExit, StoreError
from propeller_fl.proplet import MAPPED_FROM_BYTES, Invocation, SteadyPath, WasmtimeRuntime
from tests.proplet.modules import client, read_file, say

BADF, FAULT, INVAL, ISDIR, MFILE = 8, 21, 28, 31, 33
NOENT, NOTDIR, PERM, SPIPE = 44, 54, 63, 70

PRINT_ENV = client(
    "(call $exit_on (call $environ_sizes_get (i32.const 0) (i32.const 4)))"
    " (call $exit_on (call $environ_get (i32.const 1024) (i32.const 4096)))"
    " (call $say (i32.const 1) (i32.const 4096) (i32.load (i32.const 4)))"
)


def status(runtime: WasmtimeRuntime, image: bytes, files: dict[str, bytes | Path]) -> int:
    """Run a module that must end with an errno as its status; return it."""
    with pytest.raises(ModuleExit) as caught:
        runtime.run(runtime.compile(image), Invocation(files=files))
    return caught.value.status


def test_environment_is_what_was_given_and_nothing_of_the_host(
    runtime: WasmtimeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    env = {"ROUND_ID": "r-1", "HYPERPARAMS": '{"lr":0.5}', "NAME": "café"}

    result = runtime.run(runtime.compile(PRINT_ENV), Invocation(env))

    assert result.stdout.decode() == 'ROUND_ID=r-1\0HYPERPARAMS={"lr":0.5}\0NAME=café\0'


@pytest.mark.parametrize("call", ["fd_read", "fd_pread"])
def test_file_given_as_bytes_is_read(runtime: WasmtimeRuntime, call: str) -> None:
    module = runtime.compile(read_file("data", call))

    result = runtime.run(module, Invocation(files={"model": b"other", "data": b"some rows"}))

    assert result.stdout == b"some rows"


@pytest.mark.parametrize("call", ["fd_read", "fd_pread"])
def test_file_given_as_a_path_is_read(runtime: WasmtimeRuntime, call: str, tmp_path: Path) -> None:
    path = tmp_path / "shard.cbor"
    path.write_bytes(b"some rows")
    module = runtime.compile(read_file("data", call))

    assert runtime.run(module, Invocation(files={"data": path})).stdout == b"some rows"


@pytest.mark.parametrize("call", ["fd_read", "fd_pread"])
@pytest.mark.parametrize("size", [MAPPED_FROM_BYTES, MAPPED_FROM_BYTES + 4097])
def test_a_large_file_that_is_not_copied_is_read_beside_small_ones(
    runtime: WasmtimeRuntime, call: str, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"the model" + bytes(size - 9))
    files: dict[str, bytes | Path] = {"data": b"rows", "model": SteadyPath(path), "more": b"end"}
    for name, content in (
        ("model", b"the model" + bytes(4087)),
        ("data", b"rows"),
        ("more", b"end"),
    ):
        module = runtime.compile(read_file(name, call))
        assert runtime.run(module, Invocation(files=files)).stdout == content


def test_files_that_are_mapped_leave_nothing_behind(
    runtime: WasmtimeRuntime, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes(MAPPED_FROM_BYTES))
    module = runtime.compile(read_file("model"))
    for _ in range(50):
        runtime.run(module, Invocation(files={"model": SteadyPath(path)}))
    assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("path", ["./data", "././data", ".//data"])
def test_dots_and_slashes_in_a_path_are_passed_over(runtime: WasmtimeRuntime, path: str) -> None:
    module = runtime.compile(read_file(path))

    assert runtime.run(module, Invocation(files={"data": b"rows"})).stdout == b"rows"


@pytest.mark.parametrize("call", ["fd_read", "fd_pread"])
def test_empty_file_is_read(runtime: WasmtimeRuntime, call: str) -> None:
    module = runtime.compile(read_file("data", call))

    assert runtime.run(module, Invocation(files={"data": b""})).stdout == b""


def test_fd_read_goes_on_where_it_stopped(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(
        client(
            "(local $fd i32) (local $size i32)"
            " (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
            " (loop $again (call $iovec (i32.const 4096) (i32.const 4))"
            "  (call $exit_on (call $fd_read (local.get $fd) (i32.const 8) (i32.const 1)"
            "   (i32.const 0)))"
            "  (local.set $size (i32.load (i32.const 0)))"
            "  (call $say (i32.const 1) (i32.const 4096) (local.get $size))"
            "  (call $say (i32.const 1) (i32.const 68) (i32.const 1))"
            "  (br_if $again (local.get $size)))",
            text="data|",
        )
    )

    result = runtime.run(module, Invocation(files={"data": b"0123456789"}))

    assert result.stdout == b"0123|4567|89||"


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, b"0123456789"), (7, b"789"), (10, b""), (1 << 32, b""), ((1 << 63) - 1, b"")],
)
def test_fd_pread_reads_into_several_buffers_from_an_offset(
    runtime: WasmtimeRuntime, offset: int, expected: bytes
) -> None:
    module = runtime.compile(
        client(
            "(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
            # Three buffers that lie side by side, of 2, 3 and 1000 bytes.
            " (i32.store (i32.const 1024) (i32.const 4096))"
            " (i32.store (i32.const 1028) (i32.const 2))"
            " (i32.store (i32.const 1032) (i32.const 4098))"
            " (i32.store (i32.const 1036) (i32.const 3))"
            " (i32.store (i32.const 1040) (i32.const 4101))"
            " (i32.store (i32.const 1044) (i32.const 1000))"
            " (call $exit_on (call $fd_pread (local.get $fd) (i32.const 1024) (i32.const 3)"
            f"  (i64.const {offset}) (i32.const 0)))"
            " (call $say (i32.const 1) (i32.const 4096) (i32.load (i32.const 0)))",
            text="data",
        )
    )

    result = runtime.run(module, Invocation(files={"data": b"0123456789", "model": b"secret"}))

    assert result.stdout == expected


def test_fd_seek_moves_from_each_origin(runtime: WasmtimeRuntime) -> None:
    def read_one_at(offset: int, whence: int) -> str:
        return (
            f"(call $exit_on (call $fd_seek (local.get $fd) (i64.const {offset})"
            f" (i32.const {whence}) (i32.const 16)))"
            " (call $iovec (i32.const 4096) (i32.const 1))"
            " (call $exit_on (call $fd_read (local.get $fd) (i32.const 8) (i32.const 1)"
            " (i32.const 0))) (call $say (i32.const 1) (i32.const 4096) (i32.const 1))"
        )

    module = runtime.compile(
        client(
            "(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
            + read_one_at(6, 0)
            + read_one_at(-2, 1)
            + read_one_at(-1, 2),
            text="data",
        )
    )

    assert runtime.run(module, Invocation(files={"data": b"0123456789"})).stdout == b"659"


def test_seek_before_the_beginning_is_refused(runtime: WasmtimeRuntime) -> None:
    image = client(
        "(call $exit_on (call $fd_seek (call $open (i32.const 64) (i32.const 4))"
        " (i64.const -1) (i32.const 0) (i32.const 16)))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == INVAL


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("missing", NOENT),
        ("../data", PERM),
        ("a/../../data", PERM),
        ("/etc/passwd", PERM),
        ("/fl/data", PERM),
        ("data/", NOTDIR),
        ("data/x", NOTDIR),
        (".", ISDIR),
    ],
)
def test_only_the_files_given_can_be_opened(
    runtime: WasmtimeRuntime, path: str, errno: int
) -> None:
    assert status(runtime, read_file(path), {"data": b"rows"}) == errno


@pytest.mark.parametrize(
    ("flags", "rights"), [(0, 1 << 6), (1, 2), (8, 2)], ids=["write", "create", "truncate"]
)
def test_file_cannot_be_opened_to_write(runtime: WasmtimeRuntime, flags: int, rights: int) -> None:
    image = client(
        f"(drop (call $open_for (i32.const 64) (i32.const 4) (i32.const {flags})"
        f" (i64.const {rights})))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == PERM


def test_open_file_cannot_be_written(runtime: WasmtimeRuntime) -> None:
    image = client(
        "(call $say (call $open (i32.const 64) (i32.const 4)) (i32.const 64) (i32.const 4))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == BADF


def test_a_file_is_no_directory(runtime: WasmtimeRuntime) -> None:
    image = client(
        "(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
        " (call $exit_on (call $path_open (local.get $fd) (i32.const 0) (i32.const 64)"
        " (i32.const 4) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 4)))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == NOTDIR


@pytest.mark.parametrize("call", ["fd_read", "fd_pread"])
def test_closed_file_cannot_be_read(runtime: WasmtimeRuntime, call: str) -> None:
    offset = "(i64.const 0)" if call == "fd_pread" else ""
    image = client(
        "(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
        " (call $exit_on (call $fd_close (local.get $fd)))"
        f" (call $exit_on (call ${call} (local.get $fd) (i32.const 8) (i32.const 1) {offset}"
        " (i32.const 0)))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == BADF


@pytest.mark.parametrize(
    ("fd", "errno"), [(1, SPIPE), (3, ISDIR), (4, BADF), (11, BADF), (12, BADF), (-1, BADF)]
)
def test_fd_pread_of_what_is_not_an_open_file_is_refused(
    runtime: WasmtimeRuntime, fd: int, errno: int
) -> None:
    image = client(
        f"(call $exit_on (call $fd_pread (i32.const {fd}) (i32.const 8) (i32.const 1)"
        " (i64.const 0) (i32.const 0)))"
    )

    assert status(runtime, image, {"data": b"rows"}) == errno


def test_more_than_eight_open_files_are_refused(runtime: WasmtimeRuntime) -> None:
    image = client(
        "(loop $again (drop (call $open (i32.const 64) (i32.const 4))) (br $again))", text="data"
    )

    assert status(runtime, image, {"data": b"rows"}) == MFILE


def test_standard_input_is_empty(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(
        client(
            "(call $iovec (i32.const 4096) (i32.const 4096))"
            " (call $exit_on (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1)"
            " (i32.const 0)))"
            " (call $say (i32.const 1) (i32.const 4096) (i32.load (i32.const 0)))"
        )
    )

    assert runtime.run(module, Invocation()).stdout == b""


@pytest.mark.parametrize(
    "call",
    [
        "(call $fd_write (i32.const 1) (i32.const 65530) (i32.const 1) (i32.const 0))",
        "(call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0x7fffffff))",
        "(call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const -1))",
        "(call $environ_sizes_get (i32.const -1) (i32.const 0))",
        "(call $path_open (i32.const 3) (i32.const 0) (i32.const -4) (i32.const 4) (i32.const 0)"
        " (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 4))",
        "(call $fd_pread (local.get $fd) (i32.const -1) (i32.const 1) (i64.const 0) (i32.const 0))",
        "(call $fd_pread (local.get $fd) (i32.const 65000) (i32.const 99) (i64.const 0)"
        " (i32.const 0))",
        "(call $fd_pread (local.get $fd) (i32.const 8) (i32.const 1) (i64.const 0) (i32.const -1))",
        "(call $fd_read (local.get $fd) (i32.const 8) (i32.const 1) (i32.const -1))",
    ],
)
def test_pointer_out_of_memory_is_a_fault(runtime: WasmtimeRuntime, call: str) -> None:
    image = client(
        "(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
        f" (call $iovec (i32.const 4096) (i32.const 4)) (call $exit_on {call})",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == FAULT


@pytest.mark.parametrize("call", ["fd_write", "fd_read", "fd_pread"])
@pytest.mark.parametrize(
    ("pointer", "size"), [(64, -1), (65535, 2), (-1, 2), (-1, -1)], ids=lambda value: str(value)
)
def test_buffer_out_of_memory_is_a_fault(
    runtime: WasmtimeRuntime, call: str, pointer: int, size: int
) -> None:
    fd = "(i32.const 1)" if call == "fd_write" else "(call $open (i32.const 64) (i32.const 4))"
    offset = "(i64.const 0)" if call == "fd_pread" else ""
    image = client(
        f"(call $iovec (i32.const {pointer}) (i32.const {size}))"
        f" (call $exit_on (call ${call} {fd} (i32.const 8) (i32.const 1) {offset} (i32.const 0)))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == FAULT


@pytest.mark.parametrize(("call", "offset"), [("fd_pread", "(i64.const 0)"), ("fd_read", "")])
def test_reading_into_its_own_list_of_buffers_stays_in_memory(
    runtime: WasmtimeRuntime, call: str, offset: str
) -> None:
    # The first buffer is the list's second entry, which then points outside the memory.
    image = client(
        "(local $fd i32) (local.set $fd (call $open (i32.const 64) (i32.const 4)))"
        " (i32.store (i32.const 1024) (i32.const 1032))"
        " (i32.store (i32.const 1028) (i32.const 8))"
        f" (call $exit_on (call ${call} (local.get $fd) (i32.const 1024) (i32.const 2)"
        f"  {offset} (i32.const 0)))",
        text="data",
    )

    assert status(runtime, image, {"data": b"\xff" * 8 + b"more"}) == FAULT


@pytest.mark.parametrize("call", ["fd_write", "fd_read", "fd_pread"])
@pytest.mark.parametrize("count", [1025, -1])
def test_list_of_too_many_buffers_is_refused(
    runtime: WasmtimeRuntime, call: str, count: int
) -> None:
    fd = "(i32.const 1)" if call == "fd_write" else "(call $open (i32.const 64) (i32.const 4))"
    offset = "(i64.const 0)" if call == "fd_pread" else ""
    image = client(
        f"(call $exit_on (call ${call} {fd} (i32.const 1024)"
        f" (i32.const {count}) {offset} (i32.const 0)))",
        text="data",
    )

    assert status(runtime, image, {"data": b"rows"}) == INVAL


def test_path_that_is_missing_is_named(runtime: WasmtimeRuntime, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no-such-shard"):
        runtime.run(
            runtime.compile(say("hello")), Invocation(files={"data": tmp_path / "no-such-shard"})
        )


def test_path_of_a_pipe_is_refused_rather_than_waited_for(
    runtime: WasmtimeRuntime, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(StoreError, match="not a regular file"):
        runtime.run(runtime.compile(say("hello")), Invocation(files={"data": pipe}))
