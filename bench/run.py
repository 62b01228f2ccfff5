"""What our own parts cost, beside the least they could: `python bench/run.py`.

Each row is a ratio taken within this run, so that it means something on a machine that others use
as well: the best of several repetitions of both sides, in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from propeller_fl.learn import WeightedMean
from propeller_fl.manager import ImageLibrary
from propeller_fl.proplet import Invocation, WasmtimeRuntime
from propeller_fl.wire import Format, Model

REPETITIONS = 7


def best_s(*sides: Callable[[], object]) -> list[float]:
    """The shortest time of each side, run in turn."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(REPETITIONS):
        for side, found in zip(sides, times, strict=True):
            begin_s = time.perf_counter()
            side()
            found.append(time.perf_counter() - begin_s)
    return [min(found) for found in times]


def fedavg(size: int, updates: int) -> tuple[str, float, float]:
    """Updates a second, beside numpy's in-place float32 add."""
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=size).astype(np.float32) for _ in range(min(updates, 16))]

    def ours() -> None:
        mean = WeightedMean(size)
        for number in range(updates):
            mean.add(vectors[number % len(vectors)], 100)
        mean.result()

    def add() -> None:
        total = np.zeros(size, np.float32)
        for number in range(updates):
            total += vectors[number % len(vectors)]

    ours_s, add_s = best_s(ours, add)
    return f"FedAvg, {size:,} parameters, {updates:,} updates", updates / ours_s, add_s / ours_s


def decoding(size: int) -> tuple[str, float, float]:
    """CBOR documents a second, beside a copy and a check of the same bytes."""
    array = np.random.default_rng(0).normal(size=size).astype(np.float32)
    document = Model({"w": array}).encode(Format.CBOR)
    raw = array.tobytes()

    def ours() -> None:
        for _ in range(50):
            Model.decode(document)

    def floor() -> None:
        for _ in range(50):
            np.isfinite(np.frombuffer(raw, np.float32).copy()).all()

    ours_s, floor_s = best_s(ours, floor)
    return f"decode and check CBOR, {size:,} parameters", 50 / ours_s, floor_s / ours_s


def task() -> tuple[str, float, float]:
    """Evaluations of one sample a second, beside instantiating a module that does nothing."""
    nothing = bytes.fromhex(
        "0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f7374617274"
        "00000a040102000b"
    )
    model = Model({"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)})
    files = {
        "model": model.encode(Format.CBOR),
        "data": b'{"x":[[' + b",".join([b"0"] * 64) + b']],"y":[1]}',
    }
    env = {
        "ROUND_ID": "r",
        "MODEL_URI": "fl/models/global_model_v0",
        "HYPERPARAMS": "{}",
        "FL_MODE": "evaluate",
    }
    with WasmtimeRuntime() as runtime:
        client = runtime.compile(ImageLibrary({}).fetch("builtin:softmax").data)
        empty = runtime.compile(nothing)

        def ours() -> None:
            for _ in range(50):
                runtime.run(client, Invocation(env, files))

        def floor() -> None:
            for _ in range(50):
                runtime.run(empty, Invocation())

        ours_s, floor_s = best_s(ours, floor)
    return "a Wasmtime task without training", 50 / ours_s, floor_s / ours_s


def main() -> None:
    """Measure and print."""
    print(f"{'what':<48}{'per second':>12}  of the least")
    for name, rate, ratio in (
        fedavg(650, 1000),
        fedavg(100_000, 200),
        fedavg(10_000_000, 10),
        decoding(100_000),
        task(),
    ):
        print(f"{name:<48}{rate:>12,.0f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
