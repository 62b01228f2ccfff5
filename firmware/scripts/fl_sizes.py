#!/usr/bin/env python3
"""Flash and RAM of firmware builds as a table, held against the budget in sizes.yaml.

Status 1 when a build is over its budget.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import yaml
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

BUDGETS = Path(__file__).resolve().parent.parent / "sizes.yaml"


@dataclass(frozen=True)
class Sizes:
    """What an image takes of its board, in bytes."""

    flash: int
    ram: int


def measure(elf: BinaryIO) -> Sizes:
    """Flash: all that is stored. RAM: all that is written at run time, stored or not."""
    flash = ram = 0
    for section in ELFFile(elf).iter_sections():
        flags, size = section["sh_flags"], section["sh_size"]
        if not flags & SH_FLAGS.SHF_ALLOC:
            continue
        stored = section["sh_type"] != "SHT_NOBITS"
        writable = bool(flags & SH_FLAGS.SHF_WRITE)
        flash += size if stored else 0
        ram += size if writable or not stored else 0
    return Sizes(flash, ram)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "builds",
        nargs="+",
        metavar="NAME=BUILD_DIR",
        help="NAME is a key of the budget file; a build without a budget is only listed",
    )
    parser.add_argument("--budgets", type=Path, default=BUDGETS)
    arguments = parser.parse_args()
    budgets = yaml.safe_load(arguments.budgets.read_text(encoding="utf-8"))
    over = False
    print("| image | flash | budget | RAM | budget |")
    print("|---|---:|---:|---:|---:|")
    for build in arguments.builds:
        name, _, folder = build.partition("=")
        with (Path(folder) / "zephyr" / "zephyr.elf").open("rb") as elf:
            sizes = measure(elf)
        budget = budgets.get(name, {})
        flash_budget, ram_budget = budget.get("flash_bytes"), budget.get("ram_bytes")
        print(
            f"| {name} | {sizes.flash:,} | {_bytes(flash_budget)} "
            f"| {sizes.ram:,} | {_bytes(ram_budget)} |"
        )
        for what, used, limit in (
            ("flash", sizes.flash, flash_budget),
            ("RAM", sizes.ram, ram_budget),
        ):
            if limit is not None and used > limit:
                print(f"{name}: {used - limit:,} bytes of {what} over budget", file=sys.stderr)
                over = True
    sys.exit(1 if over else 0)


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


if __name__ == "__main__":
    main()
