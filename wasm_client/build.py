"""Builds the modules that come with the package, and the list of their digests.

    python wasm_client/build.py

Needs `pip install -e '.[client]'`. Commit what it writes to host/propeller_fl/modules.
"""

from __future__ import annotations

from pathlib import Path

from propeller_fl.client import build_module

NAMES = ("activity", "linear", "softmax")


def main() -> None:
    here = Path(__file__).resolve().parent
    modules = here.parent / "host" / "propeller_fl" / "modules"
    lines = []
    for name in NAMES:
        built = build_module(here / name, modules / f"{name}.wasm")
        print(f"{built.path.name}: {built.size_bytes} bytes, sha256 {built.sha256}")
        lines.append(f"{built.sha256}  {built.path.name}\n")
    (modules / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    main()
