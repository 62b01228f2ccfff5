"""Targets: what a module does, on Wasmtime and, where the firmware's runtime is built, on WAMR."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from propeller_fl.wire import Format, Model, encode_document
from tests.fuzz.mutate import byte_mutator
from tests.fuzz.runtimes import BoardRuntime, HostRuntime, Inputs, Outcome, difference
from tests.fuzz.target import Broken, Target
from tests.fuzz.wasi_calls import calling_module, program_seeds, program_tokens
from tests.fuzz.wasm_mutate import mutate_wasm
from tests.fuzz.wasm_seeds import module_seeds

BOARD_VARIABLE: Final = "PROPELLER_FUZZ_BOARD"
"""Names the program that :func:`tests.fuzz.board.build_runtime` built; WAMR runs only with it."""

ON_RUNTIMES: Final = ("wasm-modules", "wasi-calls")
"""The targets that run modules."""

_ENV: Final = {
    "ROUND_ID": "r-0001",
    "PROPLET_ID": "proplet-1",
    "MODEL_URI": "fl/models/global_model_v0",
    "HYPERPARAMS": '{"epochs":1,"lr":0.5,"batch_size":2}',
}


def wasm_targets() -> Iterator[Target]:
    """Modules that are changed, and WASI calls that are changed."""
    yield Target("wasm-modules", _check_module, mutate_wasm, module_seeds, reserves_memory=True)
    yield Target(
        "wasi-calls",
        _check_calls,
        byte_mutator(program_tokens()),
        program_seeds,
        reserves_memory=True,
    )


def _check_module(image: bytes) -> Hashable:
    return _on_both(image, _training())


def _check_calls(program: bytes) -> Hashable:
    return _on_both(calling_module(), Inputs(_ENV, b"0123456789", program))


def _on_both(image: bytes, inputs: Inputs) -> Hashable:
    """How it ended on each; another answer whenever WAMR took a branch it had never taken."""
    board = _board()
    if board is None:
        return _kind(_host().run(image, inputs))
    board.send(image, inputs)
    on_host = _host().run(image, inputs)
    on_board, new_edges = board.receive()
    if differs := difference(image, on_host, on_board):
        raise Broken(differs)
    if new_edges:
        return next(_news())
    return _kind(on_host), _kind(on_board)


def _kind(outcome: Outcome) -> Hashable:
    return outcome.end, outcome.status, outcome.detail.partition(":")[0][:40]


@functools.cache
def _host() -> HostRuntime:
    return HostRuntime()


@functools.cache
def _board() -> BoardRuntime | None:
    program = os.environ.get(BOARD_VARIABLE)
    return BoardRuntime(Path(program)) if program else None


@functools.cache
def _news() -> Iterator[int]:
    return itertools.count()


@functools.cache
def _training() -> Inputs:
    """A model and data that the built-in linear module trains on."""
    model = Model({"w": np.zeros(2, np.float32), "b": np.zeros((), np.float32)}, 0)
    data = {"x": np.array([[1, 2], [3, 4], [5, 0], [0, 1]], np.uint8)}
    data["y"] = np.array([0, 1, 1, 0], np.uint8)
    return Inputs(_ENV, model.encode(Format.CBOR), encode_document(data, Format.CBOR))
