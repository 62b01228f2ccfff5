"""How a round grows with the fleet: `.venv/bin/python bench/fleet.py [PROPLETS …]`.

Each size is one run of `propeller-fl fleet simulate` in a process of its own, on services of its
own, which are idle when a round begins; of its rounds the fastest counts, as in `bench/run.py`.

`--flower` runs Flower's simulation of rounds that do nothing beside each size, one right after the
other, and prints one table. `make flower-simulation` installs what that wants.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FLOWER = ROOT / ".venv-flower" / "bin" / "python"
PARAMETERS = 650  # of the model that `fleet simulate` trains
FLOWER_SIZES = (10, 100, 1_000)
FLOWER_COLUMNS = ("clients", "ours: round, s", "Flower: round, s", "Flower's first, s", "load")
SIZES = (100, 1_000, 10_000)
PROCESSES = ("broker", "coordinator", "manager", "fleet")
COLUMNS = (
    "proplets",
    "connect, s",
    "round, s",
    "updates/s",
    "update bytes",
    "bytes up",
    "down",
    *(f"{name}: CPU s, MiB" for name in PROCESSES),
    "load",
)


def measure(proplets: int, rounds: int, arguments: list[str]) -> dict[str, Any]:
    """One size. Raises when a round did not end with the right mean."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "propeller_fl", "fleet", "simulate", "--json"]
        command += ["--proplets", str(proplets), "--rounds", str(rounds), "--output", output]
        ran = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr or ran.stdout)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    best = min(found["rounds"], key=lambda row: float(row["seconds"]))
    cells = [
        f"{found['proplets']:,}",
        f"{found['connect_s']:.1f}",
        f"{best['seconds']:.2f}",
        f"{best['accepted'] / best['seconds']:,.0f}",
        *(f"{best[name]:,}" for name in ("update_bytes", "up_bytes", "down_bytes")),
        *(f"{best['cpu_s'][p]:.1f}, {best['rss_bytes'][p] / 2**20:,.0f}" for p in PROCESSES),
        f"{os.getloadavg()[0]:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def flower(clients: int, rounds: int) -> list[float]:
    """Seconds of each of Flower's rounds; the first one starts its workers too."""
    command = [str(FLOWER), str(ROOT / "bench" / "flower_fleet.py")]
    command += [str(clients), str(rounds), str(PARAMETERS)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr or ran.stdout)
    found: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def beside_flower(clients: int, rounds: int, arguments: list[str]) -> str:
    """A row of the table beside Flower."""
    ours = measure(clients, rounds, arguments)
    theirs = flower(clients, rounds)
    cells = [
        f"{clients:,}",
        f"{min(float(row['seconds']) for row in ours['rounds']):.2f}",
        f"{min(theirs):.2f}",
        f"{theirs[0]:.1f}",
        f"{os.getloadavg()[0]:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def has_flower() -> bool:
    """Whether its simulation can be run; says what to do about it otherwise."""
    looked = [str(FLOWER), "-c", "import flwr, ray"]
    if FLOWER.exists() and subprocess.run(looked, capture_output=True).returncode == 0:
        return True
    print("not beside Flower: its simulation is not installed (make flower-simulation)")
    return False


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, metavar="PROPLETS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flower", action="store_true", help="Beside Flower's simulation.")
    parser.add_argument("--also", default="", help="More options of `fleet simulate`, in one text.")
    known = parser.parse_args()
    print(f"{os.cpu_count()} cores; Python {platform.python_version()}", end="\n\n")
    beside = known.flower and has_flower()
    columns = FLOWER_COLUMNS if beside else COLUMNS
    print(f"| {' | '.join(columns)} |")
    print(f"|{'--:|' * len(columns)}", flush=True)
    for proplets in known.sizes or (FLOWER_SIZES if beside else SIZES):
        if beside:
            print(beside_flower(proplets, known.rounds, known.also.split()), flush=True)
        else:
            print(line(measure(proplets, known.rounds, known.also.split())), flush=True)


if __name__ == "__main__":
    main()
