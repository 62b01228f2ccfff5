"""Firmware proplets from the host's side: the Zephyr workspace, boards, builds, running devices.

board = find_board("native_sim")
image = build_firmware(board)
with FirmwareDevice(image, DeviceSetup("mcu-1", broker.address, data), directory) as device: …
"""

from __future__ import annotations

from propeller_fl.firmware._boards import (
    BoardKind,
    BoardSpec,
    QemuMachine,
    find_board,
    list_boards,
    repository,
)
from propeller_fl.firmware._build import FirmwareImage, build_firmware, missing_for_board
from propeller_fl.firmware._device import DeviceSetup, FirmwareDevice
from propeller_fl.firmware._shell import LINE_BYTES_MAX, shell_lines, type_settings
from propeller_fl.firmware._workspace import Missing, Workspace, find_workspace, missing

__all__ = [
    "LINE_BYTES_MAX",
    "BoardKind",
    "BoardSpec",
    "DeviceSetup",
    "FirmwareDevice",
    "FirmwareImage",
    "Missing",
    "QemuMachine",
    "Workspace",
    "build_firmware",
    "find_board",
    "find_workspace",
    "list_boards",
    "missing",
    "missing_for_board",
    "repository",
    "shell_lines",
    "type_settings",
]
