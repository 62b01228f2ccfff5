"""Runs a module on Wasmtime alone, with Wasmtime's own WASI and none of this project's runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import wasmtime

_FUEL = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended. ``fuel`` is about the number of instructions."""

    status: int
    stdout: bytes
    stderr: str
    fuel: int = 0


class WasmtimeRunner:
    """Compiles a module once and runs it any number of times."""

    def __init__(self, image: bytes) -> None:
        config = wasmtime.Config()
        config.consume_fuel = True
        self._engine = wasmtime.Engine(config)
        self._module = wasmtime.Module(self._engine, image)

    def run(
        self, env: Mapping[str, str], files: Mapping[str, bytes], *, mounted_as: str | None = "/fl"
    ) -> Finished:
        """Run ``_start`` with ``files`` in a directory that the module sees as ``mounted_as``."""
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch, "fl")
            directory.mkdir()
            for name, content in files.items():
                (directory / name).write_bytes(content)
            stdout, stderr = Path(scratch, "stdout"), Path(scratch, "stderr")
            wasi = wasmtime.WasiConfig()
            wasi.env = list(env.items())
            if mounted_as is not None:
                root = directory if mounted_as.endswith("fl") else directory.parent
                wasi.preopen_dir(str(root), mounted_as)
            wasi.stdout_file = str(stdout)
            wasi.stderr_file = str(stderr)
            store = wasmtime.Store(self._engine)
            store.set_wasi(wasi)
            store.set_fuel(_FUEL)
            linker = wasmtime.Linker(self._engine)
            linker.define_wasi()
            start = linker.instantiate(store, self._module).exports(store)["_start"]
            assert isinstance(start, wasmtime.Func)
            status = 0
            try:
                start(store)
            except wasmtime.ExitTrap as end:
                status = end.code
            fuel = _FUEL - store.get_fuel()
            return Finished(status, stdout.read_bytes(), stderr.read_text(), fuel)
