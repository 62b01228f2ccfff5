"""The part of WASI preview 1 that the contract allows, for one run, over memory alone.

The module sees its environment; no arguments; an empty stdin; stdout, captured; stderr, for the
log; and as descriptor 3 the directory ``/fl`` with a few read-only files. No host file, clock or
random source is behind any of this, so there is nothing to escape to: files are copies in a memory
of the run's own store. Errnos are those that the firmware gives in the same case.

What every run asks in the same way the gate answers, without Python; what it leaves to us, and all
that is refused, is answered here.

Wasmtime's own WASI is not used: one ``fd_pread`` there takes 17 µs and a hop between threads (here
15 ns, see ``_gate``), and a run needs real directories, which take 0.3 ms more.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import wasmtime

from propeller_fl.errors import LimitExceeded
from propeller_fl.proplet._files import File, address_of, load_files
from propeller_fl.proplet._gate import (
    DIRECTORY,
    HEADER_BYTES,
    MAX_FDS,
    MAX_IOVS,
    OPEN_DIRECTORY_ERRNO,
    SLOT,
    STOP,
    WRITE_RIGHTS,
    tables,
    tables_bytes,
)

STDERR_TAIL_BYTES = 16 * 1024
"""How much of a module's stderr is kept: the end of it, where the reason is."""

_SUCCESS, _BADF, _FAULT, _INVAL, _ISDIR, _MFILE = 0, 8, 21, 28, OPEN_DIRECTORY_ERRNO, 33
_NAMETOOLONG, _NOENT, _NOTDIR, _PERM, _SPIPE = 37, 44, 54, 63, 70
_UNKNOWN, _DIRECTORY, _REGULAR_FILE = 0, 3, 4
_STDIN, _STDOUT, _STDERR, _ROOT = 0, 1, 2, 3
_OPEN_CREATE, _OPEN_DIRECTORY, _OPEN_EXCLUSIVE, _OPEN_TRUNCATE = 1, 2, 4, 8
_OPEN_FLAGS, _FD_FLAGS = 15, 31  # all that WASI knows
_RIGHT_READ, _RIGHT_SEEK, _RIGHT_TELL, _RIGHT_WRITE = 1 << 1, 1 << 2, 1 << 5, 1 << 6
_RIGHT_OPEN, _RIGHT_STAT = 1 << 13, 1 << 21
_FILE_RIGHTS = _RIGHT_READ | _RIGHT_SEEK | _RIGHT_TELL | _RIGHT_STAT
_MAX_U32, _MAX_I64 = (1 << 32) - 1, (1 << 63) - 1

_NO_FILE = File(0, _BADF)
# As a run begins: the streams, which cannot be read at a position, and the directory.
_SLOTS = b"".join(
    SLOT.pack(0, errno, 0)
    for errno in [_SPIPE] * _ROOT + [_ISDIR] + [_BADF] * (MAX_FDS - _ROOT - 1)
)

_Slots = ctypes.c_char * len(_SLOTS)


class _ErrnoError(Exception):
    """A call fails; the module gets ``errno`` and goes on."""

    def __init__(self, errno: int) -> None:
        self.errno = errno


class _StopRun(Exception):
    """The run is over, because of ``cause``."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class WasiRun:
    """What one run may call, and what it left behind.

    Made for one store and one thread. What goes to stdout is in ``spool``, if there is one.
    ``stdout``, ``exit_status`` and ``stop_cause`` are of interest when the run has ended.
    """

    def __init__(
        self,
        store: wasmtime.Store,
        files_memory: wasmtime.Memory,
        env: Mapping[str, str],
        files: Mapping[str, bytes | Path],
        output_bytes: int,
        spool: BinaryIO | None = None,
    ) -> None:
        self.stdout = bytearray()
        self._spool = spool
        self._written = 0  # to stdout
        self.exit_status: int | None = None
        self.stop_cause: BaseException | None = None
        self._stderr = bytearray()
        self._store = store
        self._output_bytes = output_bytes
        self._environ = [f"{name}={value}".encode() + b"\0" for name, value in env.items()]
        self._memory: wasmtime.Memory | None = None
        start = HEADER_BYTES + tables_bytes(self._environ, map(str.encode, files))
        self._files = load_files(store, files_memory, files, start)
        self._files_base = address_of(files_memory, store)
        header = _SLOTS + tables(
            self._environ, {name: (file.start, file.size) for name, file in self._files.items()}
        )
        ctypes.memmove(self._files_base, header, len(header))
        self._slots = _Slots.from_address(self._files_base)

    def attach(self, memory: wasmtime.Memory) -> None:
        """Tell which memory the pointers are of. Before this, every pointer is out of bounds."""
        self._memory = memory

    def call(self, name: str, args: Sequence[int]) -> int:
        """Answer an allowed import with an errno, or with ``STOP``, whose reason is kept.

        It never raises: an exception that crosses Wasmtime may surface in another thread's run.
        """
        function: Callable[..., int] = getattr(self, f"_{name}")
        try:
            return function(*args)
        except _ErrnoError as error:
            return error.errno
        except _StopRun as stop:
            self.stop_cause = stop.cause
        except BaseException as error:  # raised again where the run ends
            self.stop_cause = error
        return STOP

    @property
    def memory_bytes(self) -> int:
        """The size of the module's memory, 0 before there is one."""
        return self._memory.data_len(self._store) if self._memory is not None else 0

    @property
    def stderr(self) -> str:
        """The end of what the module wrote to stderr, as printable lines."""
        text = self._stderr[-STDERR_TAIL_BYTES:].decode(errors="replace")
        return "".join(
            c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
        )

    # Memory of the module. A range outside it makes a call fail with FAULT, and change nothing.

    def _at(self, pointer: int, size: int) -> int:
        """The host address of a range of the module's memory, which is checked."""
        memory = self._memory
        if memory is None or pointer + size > self.memory_bytes:
            raise _ErrnoError(_FAULT)
        return address_of(memory, self._store) + pointer

    def _write(self, pointer: int, data: bytes) -> None:
        ctypes.memmove(self._at(pointer, len(data)), data, len(data))

    def _write_u32(self, pointer: int, value: int) -> None:
        self._write(pointer, struct.pack("<I", value))

    def _iovs(self, iovs: int, count: int) -> list[tuple[int, int]]:
        """Host addresses and sizes of the buffers in a scatter/gather list, all checked."""
        if count > MAX_IOVS:
            raise _ErrnoError(_INVAL)
        listed = ctypes.string_at(self._at(iovs, 8 * count), 8 * count)
        buffers = [(self._at(ptr, size), size) for ptr, size in struct.iter_unpack("<II", listed)]
        if sum(size for _, size in buffers) > _MAX_U32:
            raise _ErrnoError(_INVAL)
        return buffers

    # Arguments and environment.

    def _write_sizes(self, count_out: int, count: int, size_out: int, size: int) -> int:
        self._at(size_out, 4)
        self._write_u32(count_out, count)
        self._write_u32(size_out, size)
        return _SUCCESS

    def _args_sizes_get(self, count_out: int, size_out: int) -> int:
        return self._write_sizes(count_out, 0, size_out, 0)

    def _args_get(self, pointers: int, buffer: int) -> int:
        self._at(pointers, 0)
        self._at(buffer, 0)
        return _SUCCESS

    def _environ_sizes_get(self, count_out: int, size_out: int) -> int:
        size = sum(map(len, self._environ))
        return self._write_sizes(count_out, len(self._environ), size_out, size)

    def _environ_get(self, pointers: int, buffer: int) -> int:
        self._at(pointers, 4 * len(self._environ))
        self._write(buffer, b"".join(self._environ))
        for entry in self._environ:
            self._write_u32(pointers, buffer)
            pointers += 4
            buffer += len(entry)
        return _SUCCESS

    def _proc_exit(self, status: int) -> int:
        self.exit_status = status
        return STOP

    # Files. fd_pread is not here: the gate answers it without Python, from the table of slots.

    def _slot(self, fd: int) -> File:
        """The slot of a descriptor, which the gate changes as well: an open file, or a ``start`` of
        0 and as ``size`` the errno of reading what is none."""
        return File(*SLOT.unpack_from(self._slots, SLOT.size * fd)) if fd < MAX_FDS else _NO_FILE

    def _set_slot(self, fd: int, file: File) -> None:
        SLOT.pack_into(self._slots, SLOT.size * fd, file.start, file.size, file.position)

    def _is_there(self, fd: int) -> bool:
        """Whether a descriptor is open, as a file or as what it was at the start."""
        slot = self._slot(fd)
        return bool(slot.start) or slot.size != _BADF

    def _need_file(self, fd: int) -> File:
        file = self._slot(fd)
        if not file.start:
            raise _ErrnoError(file.size)
        return file

    def _need_root(self, fd: int) -> None:
        if not self._is_there(fd):
            raise _ErrnoError(_BADF)
        if fd != _ROOT:
            raise _ErrnoError(_NOTDIR)

    def _find(self, path: bytes) -> File:
        """The file of a path below ``/fl``. Only its own names exist; there is no way up."""
        parts = path.split(b"/")
        if path.startswith(b"/") or b".." in parts:
            raise _ErrnoError(_PERM)
        first = next((index for index, part in enumerate(parts) if part not in (b"", b".")), None)
        if first is None:
            raise _ErrnoError(_ISDIR if path else _NOENT)
        file = self._files.get(parts[first])
        if file is None:
            raise _ErrnoError(_NOENT)
        if first + 1 < len(parts):
            raise _ErrnoError(_NOTDIR)
        return file

    def _fd_prestat_get(self, fd: int, prestat_out: int) -> int:
        if fd != _ROOT or not self._is_there(fd):
            return _BADF
        self._write(prestat_out, struct.pack("<II", 0, len(DIRECTORY)))  # 0: a directory
        return _SUCCESS

    def _fd_prestat_dir_name(self, fd: int, path: int, path_size: int) -> int:
        if fd != _ROOT or not self._is_there(fd):
            return _BADF
        self._at(path, path_size)
        if path_size < len(DIRECTORY):
            return _NAMETOOLONG
        self._write(path, DIRECTORY)
        return _SUCCESS

    def _path_open(
        self,
        dir_fd: int,
        lookup_flags: int,
        path: int,
        path_size: int,
        open_flags: int,
        rights: int,
        inherited_rights: int,
        fd_flags: int,
        fd_out: int,
    ) -> int:
        self._need_root(dir_fd)
        name = ctypes.string_at(self._at(path, path_size), path_size)
        self._at(fd_out, 4)
        if open_flags > _OPEN_FLAGS:
            return _INVAL
        if open_flags & (_OPEN_CREATE | _OPEN_EXCLUSIVE | _OPEN_TRUNCATE) or rights & WRITE_RIGHTS:
            return _PERM
        file = self._find(name)
        if open_flags & _OPEN_DIRECTORY:
            return _NOTDIR
        fd = next((fd for fd in range(_ROOT + 1, MAX_FDS) if not self._is_there(fd)), None)
        if fd is None:
            return _MFILE
        self._set_slot(fd, File(file.start, file.size))
        self._write_u32(fd_out, fd)
        return _SUCCESS

    def _fd_close(self, fd: int) -> int:
        if not self._is_there(fd):
            return _BADF
        self._set_slot(fd, _NO_FILE)
        return _SUCCESS

    def _fd_read(self, fd: int, iovs: int, count: int, read_out: int) -> int:
        if fd in (_STDOUT, _STDERR):
            return _BADF
        empty = fd == _STDIN and self._is_there(fd)
        file = File(0, 0) if empty else self._need_file(fd)
        self._iovs(iovs, count)
        self._at(read_out, 4)
        position = file.position
        for index in range(count):
            # Again: a buffer may lie on the list itself.
            entry = ctypes.string_at(self._at(iovs + 8 * index, 8), 8)
            pointer, size = struct.unpack("<II", entry)
            address = self._at(pointer, size)
            size = min(size, max(0, file.size - position))
            ctypes.memmove(address, self._files_base + file.start + position, size)
            position += size
        self._write_u32(read_out, position - file.position)
        if not empty:
            self._set_slot(fd, File(file.start, file.size, position))
        return _SUCCESS

    def _fd_seek(self, fd: int, offset: int, whence: int, position_out: int) -> int:
        file = self._need_file(fd)
        self._at(position_out, 8)
        origins = (0, file.position, file.size)
        if whence >= len(origins):
            return _INVAL
        target = origins[whence] + (offset if offset <= _MAX_I64 else offset - (1 << 64))
        if not 0 <= target <= _MAX_I64:
            return _INVAL
        self._set_slot(fd, File(file.start, file.size, target))
        self._write(position_out, struct.pack("<Q", target))
        return _SUCCESS

    def _fd_tell(self, fd: int, position_out: int) -> int:
        self._write(position_out, struct.pack("<Q", self._need_file(fd).position))
        return _SUCCESS

    def _fd_fdstat_get(self, fd: int, fdstat_out: int) -> int:
        kind, rights, inherited = _REGULAR_FILE, _FILE_RIGHTS, 0
        if not self._is_there(fd):
            return _BADF
        if fd <= _ROOT:
            kind, rights = _UNKNOWN, _RIGHT_READ if fd == _STDIN else _RIGHT_WRITE
            if fd == _ROOT:
                kind, rights, inherited = _DIRECTORY, _RIGHT_OPEN, _FILE_RIGHTS
        self._write(fdstat_out, struct.pack("<B7xQQ", kind, rights, inherited))
        return _SUCCESS

    def _fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        """Accept any flag and keep none: there is nothing to append to or to wait for."""
        if not self._is_there(fd):
            return _BADF
        return _SUCCESS if flags <= _FD_FLAGS else _INVAL

    def _fd_filestat_get(self, fd: int, filestat_out: int) -> int:
        """Device, inode and times are zero: the same on every host."""
        if not self._is_there(fd):
            return _BADF
        kind, size = _UNKNOWN, 0
        if fd > _ROOT:
            kind, size = _REGULAR_FILE, self._slot(fd).size
        elif fd == _ROOT:
            kind = _DIRECTORY
        self._write(filestat_out, struct.pack("<16xB7xQQ24x", kind, 1, size))
        return _SUCCESS

    # Output.

    def _fd_write(self, fd: int, iovs: int, count: int, written_out: int) -> int:
        if fd not in (_STDOUT, _STDERR) or not self._is_there(fd):
            return _BADF
        buffers = self._iovs(iovs, count)
        self._at(written_out, 4)
        total = sum(size for _, size in buffers)
        if fd == _STDOUT and self._written + total > self._output_bytes:
            raise _StopRun(
                LimitExceeded(
                    "output", f"the module wrote more than {self._output_bytes} bytes to stdout"
                )
            )
        for address, size in buffers:
            if fd == _STDOUT:
                self._put(ctypes.string_at(address, size))
            else:
                kept = min(size, STDERR_TAIL_BYTES)
                self._stderr += ctypes.string_at(address + size - kept, kept)
        if len(self._stderr) > 2 * STDERR_TAIL_BYTES:
            del self._stderr[:-STDERR_TAIL_BYTES]
        self._write_u32(written_out, total)
        return _SUCCESS

    def _put(self, data: bytes) -> None:
        self._written += len(data)
        if self._spool is None:
            self.stdout += data
        else:
            self._spool.write(data)
