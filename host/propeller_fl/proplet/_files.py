"""The files of one run in a memory of its own store, where its module may read them.

They are copied there, but for files that are known not to change: large ones of these are mapped
into their place. What is read of them is then the file system's cache, which the kernel takes back
when it needs the room.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PosixPath

import wasmtime

from propeller_fl.errors import ModuleError, StoreError
from propeller_fl.proplet._wasm import PAGE_BYTES

MAX_FILES_BYTES = 1 << 30
"""All files of one run together."""

MAPPED_FROM_BYTES = 1 << 20

_FIRST_PAGES = 4  # of the memory for files: most tasks have less than 256 KiB
_PIECE_BYTES = 1 << 18  # of a file, on its way into the memory


class SteadyPath(PosixPath):
    """A file that nobody changes for as long as it is there: it need not be copied."""

    __slots__ = ()


_MAP_FIXED = 0x10  # Python's mmap has no name for it, and cannot map to an address
_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int64),
)


@dataclass(slots=True)
class File:
    """A file in the files memory, and where an open descriptor stands in it."""

    start: int
    size: int
    position: int = 0


def address_of(memory: wasmtime.Memory, store: wasmtime.Store) -> int:
    """Where a memory begins in this process; it may move when the memory grows."""
    return ctypes.addressof(memory.data_ptr(store).contents)


def files_memory(store: wasmtime.Store) -> wasmtime.Memory:
    """A memory for the files of a run, which stays where it is when it grows."""
    limits = wasmtime.Limits(_FIRST_PAGES, MAX_FILES_BYTES // PAGE_BYTES)
    return wasmtime.Memory(store, wasmtime.MemoryType(limits))


def load_files(
    store: wasmtime.Store, memory: wasmtime.Memory, files: Mapping[str, bytes | Path], start: int
) -> dict[bytes, File]:
    """Copy files into a new :func:`files_memory`, one after the other from ``start`` on; before it
    are zeros. No limit of the store's may be in the way."""
    sources: dict[str, tuple[bytes | Path, File]] = {}
    end = start
    for name, content in files.items():
        size = _regular_size(content) if isinstance(content, Path) else len(content)
        if _is_mapped(content, size):
            end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
        sources[name] = (content, File(end, size))
        end += size
        if _is_mapped(content, size):  # the last page of the mapping is the file's alone
            end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
    if end > MAX_FILES_BYTES:
        raise ModuleError(
            f"the files {', '.join(files)} have {end} bytes together, more than {MAX_FILES_BYTES}",
            hint="give the proplet a smaller part of the data",
        )
    more = -(-end // PAGE_BYTES) - _FIRST_PAGES
    if more > 0:
        memory.grow(store, more)
    base = address_of(memory, store)
    for content, file in sources.values():
        if isinstance(content, Path) and _is_mapped(content, file.size):
            _map(content, base + file.start, file.size)
        elif isinstance(content, Path):
            file.size = _read_into(content, base + file.start, file.size)
        else:
            ctypes.memmove(base + file.start, content, file.size)
    return {name.encode(): file for name, (_, file) in sources.items()}


def _is_mapped(content: bytes | Path, size: int) -> bool:
    return isinstance(content, SteadyPath) and size >= MAPPED_FROM_BYTES


def _map(path: Path, address: int, size: int) -> None:
    """Put the file's pages in place of the memory's own, which nothing has touched. They go with
    the memory: it is unmapped as a whole when its store ends."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < size:
                raise StoreError(f"{path} has become shorter")
            found = _mmap(
                address, size, mmap.PROT_READ, mmap.MAP_PRIVATE | _MAP_FIXED, file.fileno(), 0
            )
    except OSError as error:
        raise StoreError(f"a file for the module cannot be read: {error}") from error
    if found != address:
        errno = ctypes.get_errno()
        raise StoreError(f"{path} cannot be mapped: {os.strerror(errno)}")


def _regular_size(path: Path) -> int:
    """The size of a regular file; a pipe or device in its place could block for ever."""
    try:
        status = path.stat()
    except OSError as error:
        raise StoreError(f"a file for the module cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is not a regular file, so a module cannot have it")
    return status.st_size


def _read_into(path: Path, address: int, size: int) -> int:
    """Read a file into memory; return the bytes read, fewer if it shrank meanwhile."""
    done = 0
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while done < size and (piece := os.read(file, min(size - done, _PIECE_BYTES))):
                ctypes.memmove(address + done, piece, len(piece))
                done += len(piece)
        finally:
            os.close(file)
    except OSError as error:
        raise StoreError(f"a file for the module cannot be read: {error}") from error
    return done
