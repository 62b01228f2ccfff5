"""Boards behind one interface; :func:`make_board` picks the class by board.yaml's ``kind``.

board = make_board(find_board("mps2_an385"), tmp_path)
board.flash(board.build())
board.start(DeviceSetup("mcu-1", broker.address, data))
board.console.expect("connected to the broker", timeout_s=30)
board.finish()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hil_tests.boards._board import Board, BoardError, FlashError
from hil_tests.boards._lab import LabBoard, read_lab
from hil_tests.boards._simulated import NativeSimBoard, QemuBoard
from hil_tests.boards._west import Port, WestBoard
from propeller_fl.firmware import BoardKind, BoardSpec, find_workspace

_SIMULATED: Final[Mapping[BoardKind, type[NativeSimBoard] | type[QemuBoard]]] = {
    BoardKind.NATIVE: NativeSimBoard,
    BoardKind.QEMU: QemuBoard,
}


def make_board(spec: BoardSpec, directory: Path, lab: LabBoard | None = None) -> Board:
    """A board of this kind. ``lab``: which of the attached ones, for a real board."""
    if spec.kind in _SIMULATED:
        return _SIMULATED[spec.kind](spec, directory)
    if lab is None:
        raise BoardError(f"{spec.target} is a real board: describe it in a lab file (--lab)")
    workspace = find_workspace()
    if workspace is None:
        return WestBoard(spec, directory, lab)
    return WestBoard(spec, directory, lab, (str(workspace.west),), workspace.environment())


__all__ = [
    "Board",
    "BoardError",
    "FlashError",
    "LabBoard",
    "NativeSimBoard",
    "Port",
    "QemuBoard",
    "WestBoard",
    "make_board",
    "read_lab",
]
