"""Write the shared message fixtures as a C header, for targets that have no files.

python make_fixtures.py FIXTURES_DIR HEADER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def c_string(data: bytes) -> str:
    """Return a C string literal that holds exactly ``data``."""
    return '"' + "".join(f"\\{byte:03o}" for byte in data) + '"'


def fixture_row(path: Path, index: int) -> tuple[str, str]:
    """Return the table of expectations and the row of one fixture."""
    message, *rest = path.stem.split("-")
    reason, field, expect = "ok", "", {}
    if path.parent.name in ("valid", "lenient"):
        expect = json.loads(path.with_suffix(".expect").read_text(encoding="utf-8"))
    else:
        reason, subject = rest
        field = "" if reason == "undecodable" else subject.split("__")[0]
    pairs = "".join(
        f"    {{{c_string(key.encode())}, {c_string(value.encode())}}},\n"
        for key, value in expect.items()
    )
    fields = f"{{\n{pairs}    {{NULL, NULL}},\n}};\n"
    table = f"static const struct fixture_field fixture_{index}[] = {fields}"
    data = path.read_bytes()
    row = (
        f"    {{{c_string(path.stem.encode())}, {c_string(message.encode())}, "
        f"{c_string(reason.encode())}, {c_string(field.encode())}, {c_string(data)}, "
        f"{len(data)}, fixture_{index}}},\n"
    )
    return table, row


def header(fixtures: Path) -> str:
    """Return the header's text for all fixtures below ``fixtures``."""
    paths = sorted(fixtures.glob("*/*.json"))
    if not paths:
        raise SystemExit(f"no fixtures in {fixtures}")
    tables, rows = zip(*(fixture_row(path, index) for index, path in enumerate(paths)), strict=True)
    return (
        "/* Made from the shared message fixtures; do not edit. */\n"
        "struct fixture_field {\n    const char *name;\n    const char *value;\n};\n\n"
        "struct fixture {\n    const char *name;\n    const char *message;\n"
        "    const char *reason;\n    const char *field;\n    const char *bytes;\n"
        "    size_t size;\n    const struct fixture_field *expect;\n};\n\n"
        + "".join(tables)
        + "\nstatic const struct fixture fixtures[] = {\n"
        + "".join(rows)
        + "};\n"
    )


if __name__ == "__main__":
    fixtures_dir, out = map(Path, sys.argv[1:])
    out.write_text(header(fixtures_dir), encoding="ascii")
