#!/usr/bin/env python3
"""Writes what the firmware finds in memory or flash that is filled from outside (src/blob.h)."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

KINDS = ("data", "conf")


def make_blob(kind: str, payload: bytes) -> bytes:
    """``payload`` behind the firmware's header. ``kind``: one of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(KINDS)}")
    size = len(payload).to_bytes(4, "little")
    return b"FLB1" + kind.encode("ascii") + size + hashlib.sha256(payload).digest() + payload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="data: /fl/data; conf: lines key=value")
    parser.add_argument("payload", type=Path, help="file that holds the payload")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()
    arguments.output.write_bytes(make_blob(arguments.kind, arguments.payload.read_bytes()))


if __name__ == "__main__":
    main()
