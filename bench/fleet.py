"""How a round grows with the fleet: `.venv/bin/python bench/fleet.py [PROPLETS …]`.

Each size is one run of `propeller-fl fleet simulate` in a process of its own, on services of its
own, which are idle when a round begins; of its rounds the fastest counts, as in `bench/run.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from typing import Any

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="PROPLETS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--also", default="", help="More options of `fleet simulate`, in one text.")
    known = parser.parse_args()
    print(f"{os.cpu_count()} cores; Python {platform.python_version()}", end="\n\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'--:|' * len(COLUMNS)}")
    for proplets in known.sizes:
        print(line(measure(proplets, known.rounds, known.also.split())), flush=True)


if __name__ == "__main__":
    main()
