"""What the product does, beside the least it could cost and beside Flower: `make bench`.

Each row is a ratio taken within this run, so that it means something on a machine that others use
as well: the best of several repetitions of both sides, in turn; of what runs in this process alone
the processor's time, since the clock would count what others do. `--only NAME` runs one row.
"""

from __future__ import annotations

import propeller_fl  # before numpy is loaded: it says how many threads BLAS has

# isort: split
import argparse
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import services

from propeller_fl.learn import WeightedMean
from propeller_fl.wire import Format, Model

REPETITIONS = 9
FLOWER = Path(__file__).parents[1] / ".venv-flower" / "bin" / "python"
TASK_REACH_S = 0.002


@dataclass(frozen=True)
class Row:
    """``ours`` and ``limit`` in ``unit``; ``flower`` as text; ``reached`` or not."""

    what: str
    unit: str
    ours: float
    limit: float
    flower: str
    reach: str
    reached: bool


def best_s(*sides: Callable[[], object]) -> list[float]:
    """The shortest processor time of each side, run in turn."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(REPETITIONS):
        for side, found in zip(sides, times, strict=True):
            begin_s = time.process_time()
            side()
            found.append(time.process_time() - begin_s)
    return [min(found) for found in times]


def fedavg(size: int, updates: int, reach: float) -> Row:
    """Updates a second, beside numpy's in-place float32 add of the same vectors.

    As aggregation does it: one vector after the other, in memory that is not written to again.
    """
    rng = np.random.default_rng(0)
    vectors = [
        np.frombuffer(rng.normal(size=size).astype(np.float32).tobytes(), np.float32)
        for _ in range(min(updates, 16))
    ]
    sequence = [vectors[number % len(vectors)] for number in range(updates)]

    def ours() -> None:
        mean = WeightedMean(size)
        for vector in sequence:
            mean.add(vector, 100)
        mean.result()

    def add() -> None:
        total = np.zeros(size, np.float32)
        for vector in sequence:
            total += vector

    ours_s, add_s = best_s(ours, add)
    return Row(
        f"FedAvg, {size:,} parameters, {updates:,} updates", "updates/s",
        updates / ours_s, updates / add_s, flower(size, updates),
        f"{reach} of an in-place add", add_s / ours_s >= reach,
    )  # fmt: skip


def flower(size: int, updates: int) -> str:
    """Flower's rate for the same, or what it lacks."""
    if not FLOWER.exists():
        return "no .venv-flower"
    script = Path(__file__).with_name("flower.py")
    ran = subprocess.run([FLOWER, script, str(size), str(updates)], capture_output=True, text=True)
    if ran.returncode:
        return "failed: " + ran.stderr.strip().rpartition("\n")[2]
    return f"{max(map(float, ran.stdout.split())):,.0f}"


def decoding(size: int, reach: float) -> Row:
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
    return Row(
        f"decode and check CBOR, {size:,} parameters", "documents/s", 50 / ours_s, 50 / floor_s, "",
        f"{reach} of copy and check", floor_s / ours_s >= reach,
    )  # fmt: skip


def coordinator(reach: float) -> Row:
    """Updates a second from a broker's queue to the end of their round."""
    ours, sink = services.coordinator()
    return Row(
        f"coordinator, {services.SENDERS:,} updates of 10 KB", "updates/s", ours, sink, "",
        f"{reach} of an empty paho sink", ours / sink >= reach,
    )  # fmt: skip


def task() -> Row:
    """Milliseconds from task to update."""
    ours_s, echo_s = services.task()
    return Row(
        "a Wasmtime task without training", "ms", ours_s * 1e3, echo_s * 1e3, "",
        f"{TASK_REACH_S * 1e3:g} ms beyond two ways through the broker", ours_s <= TASK_REACH_S,
    )  # fmt: skip


ROWS: dict[str, Callable[[], Row]] = {
    "fedavg-650": lambda: fedavg(650, 1000, 0.6),
    "fedavg-100k": lambda: fedavg(100_000, 200, 0.45),
    "fedavg-10m": lambda: fedavg(10_000_000, 10, 0.35),
    "decode": lambda: decoding(100_000, 0.8),
    "coordinator": lambda: coordinator(0.8),
    "task": task,
}


def machine() -> str:
    """What the numbers were taken on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    kernel = os.environ.get("OPENBLAS_CORETYPE", "of this processor")
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}; numpy {np.__version__}; {blas['name']} {blas['version']}, "
        f"kernel {kernel}; propeller-fl {propeller_fl.__version__}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ROWS, help="one row")
    only = parser.parse_args().only
    print(machine(), end="\n\n")
    print("| measure | unit | limit | ours | Flower | ratio | reach | |")
    print("|---|---|--:|--:|--:|--:|---|---|")
    for name, measure in ROWS.items():
        if only in (None, name):
            row = measure()
            numbers = [
                f"{n:,.2f}" if row.unit == "ms" else f"{n:,.0f}" for n in (row.limit, row.ours)
            ]
            ratio = "" if row.unit == "ms" else f"{row.ours / row.limit:.2f}"
            print(
                f"| {row.what} | {row.unit} | {' | '.join(numbers)} | {row.flower} | {ratio} "
                f"| {row.reach} | {'yes' if row.reached else 'no'} |",
                flush=True,
            )
    if not FLOWER.exists():
        print(
            "\nFlower's column: python3 -m venv .venv-flower && "
            ".venv-flower/bin/pip install flwr==1.42.0"
        )


if __name__ == "__main__":
    main()
