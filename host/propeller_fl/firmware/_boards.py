"""The boards firmware is built for: one folder ``boards/<target>/`` each, with a board.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from propeller_fl.errors import ConfigError

_MARK: Final = Path("firmware", "west.yml")


class BoardKind(StrEnum):
    """How a board is run."""

    NATIVE = "native"  # a program of this machine
    QEMU = "qemu"  # an emulated machine
    WEST = "west"  # a real one, flashed by ``west flash``


@dataclass(frozen=True, slots=True)
class QemuMachine:
    """The emulated machine and where its memory takes blobs from outside (physical addresses)."""

    program: str
    machine: str
    nic: str
    config_address: int
    data_address: int


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """One board: what its board.yaml says."""

    target: str  # the folder's name, and ours for it
    zephyr_board: str  # Zephyr's name, such as "mps2/an385"
    kind: BoardKind
    purpose: str
    qemu: QemuMachine | None = None  # of kind QEMU only


def repository() -> Path:
    """The clone that holds firmware/ and boards/: around this package, or the current directory.

    Raises ``ConfigError`` when there is none: the installed package has no firmware sources in it.
    """
    for start in (Path(__file__).resolve(), Path.cwd()):
        for folder in start.parents if start.is_file() else (start, *start.parents):
            if (folder / _MARK).is_file():
                return folder
    raise ConfigError(
        "there are no firmware sources here",
        hint="run it in a clone of the repository, or from an editable install of one",
    )


def list_boards(root: Path | None = None) -> list[BoardSpec]:
    """All boards of the repository (``root``: another than :func:`repository`), by target."""
    folder = (root or repository()) / "boards"
    return [_read(path) for path in sorted(folder.glob("*/board.yaml"))]


def find_board(target: str, root: Path | None = None) -> BoardSpec:
    """The board with this target name. Raises ``ConfigError`` that lists the ones there are."""
    folder = (root or repository()) / "boards"
    path = folder / target / "board.yaml"
    if not path.is_file():
        known = ", ".join(found.parent.name for found in sorted(folder.glob("*/board.yaml")))
        raise ConfigError(f"there is no board {target!r}", hint=f"one of: {known or 'none'}")
    return _read(path)


def _read(path: Path) -> BoardSpec:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            "reading boards/*/board.yaml needs PyYAML", hint="pip install 'propeller-fl[hil]'"
        ) from None
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = BoardKind(document["kind"])
        return BoardSpec(
            target=path.parent.name,
            zephyr_board=str(document["zephyr_board"]),
            kind=kind,
            purpose=str(document["purpose"]).strip(),
            qemu=_qemu(document["qemu"]) if kind is BoardKind.QEMU else None,
        )
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]!r} is missing") from None
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _qemu(document: Mapping[str, Any]) -> QemuMachine:
    return QemuMachine(
        program=str(document.get("program", "qemu-system-arm")),
        machine=str(document["machine"]),
        nic=str(document["nic"]),
        config_address=int(document["config_address"]),
        data_address=int(document["data_address"]),
    )
