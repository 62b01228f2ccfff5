"""The golden vectors in ``wasm_client/golden``; the README there says what is in a case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FOLDER = Path(__file__).resolve().parents[2] / "wasm_client" / "golden"
FILES = ("model", "data")


@dataclass(frozen=True, slots=True)
class Case:
    """One run: what the module is given, and what must come out.

    ``stderr`` is a regular expression for the whole of it.
    """

    name: str
    env: dict[str, str]
    files: dict[str, bytes]
    status: int
    stdout: bytes
    stderr: str

    @property
    def module(self) -> str:
        """The module it is for: the name up to the first hyphen."""
        return self.name.partition("-")[0]

    @classmethod
    def load(cls, folder: Path) -> Self:
        expected = json.loads((folder / "expect.json").read_text())
        return cls(
            name=folder.name,
            env=json.loads((folder / "env.json").read_text()),
            files={n: (folder / n).read_bytes() for n in FILES if (folder / n).exists()},
            status=expected["status"],
            stdout=(folder / "stdout").read_bytes(),
            stderr=expected["stderr"],
        )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "env.json").write_text(json.dumps(self.env, indent=2) + "\n")
        expected = {"status": self.status, "stderr": self.stderr}
        (folder / "expect.json").write_text(json.dumps(expected, indent=2) + "\n")
        (folder / "stdout").write_bytes(self.stdout)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def load_all() -> list[Case]:
    """Every case, by name."""
    return [Case.load(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]
