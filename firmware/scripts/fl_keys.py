#!/usr/bin/env python3
"""Writes public keys, PEM as `propeller-fl client keygen` makes it, as rows of a C array."""

from __future__ import annotations

import argparse
import base64
import binascii
import re
import sys
from pathlib import Path

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", re.DOTALL)
_ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key (RFC 8410)."""


def read_keys(text: str) -> list[bytes]:
    """The 32 bytes of each key. Raises ``ValueError``: there is none, or one of another kind."""
    keys = []
    for body in _PEM.findall(text):
        try:
            der = base64.b64decode("".join(body.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"a key is not base64: {error}") from None
        if not der.startswith(_ED25519) or len(der) != len(_ED25519) + 32:
            raise ValueError("a key is of another kind than Ed25519")
        keys.append(der[len(_ED25519) :])
    if not keys:
        raise ValueError("there is no public key in PEM; propeller-fl client keygen makes one")
    return keys


def rows(keys: list[bytes]) -> str:
    return "".join("{" + ", ".join(f"0x{byte:02x}" for byte in key) + "},\n" for key in keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", type=Path, help="PEM file with one public key or several")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()
    try:
        text = rows(read_keys(arguments.keys.read_text()))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        sys.exit(f"CONFIG_FL_TRUSTED_KEYS_FILE {arguments.keys}: {error}")
    arguments.output.write_text(text)


if __name__ == "__main__":
    main()
