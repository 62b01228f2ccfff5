"""The lab file: which real boards are attached to this machine, and how to reach each.

    [[board]]
    target = "nucleo_f767zi"            # its folder in boards/
    probe = "066DFF485671664867172828"  # serial number of its debug probe
    broker_host = "192.168.1.10"        # this machine, as the board's network sees it

    # the rest is optional
    name = "left-nucleo"                # to tell two of a target apart; default: the probe
    runner = "openocd"                  # west's flash runner; default: the board's own
    probe_args = ["--serial", "{probe}"]   # how that runner is told the probe
    console = "/dev/serial/by-id/usb-…"    # default: the probe's own serial port
    console_serial = "A50285BI"         # or: the serial number of a serial adapter
    baud = 115200
    reset = ["pyocd", "reset", "-u", "{probe}"]    # default: power, or flashing again
    power_off = ["uhubctl", "-a", "off", "-l", "1-1", "-p", "2"]
    power_on = ["uhubctl", "-a", "on", "-l", "1-1", "-p", "2"]

Boards are told apart by serial numbers, never by the order in which they were plugged in: a
console called /dev/ttyACM0 or COM3 is refused.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from propeller_fl.errors import ConfigError

_BY_ORDER: Final = re.compile(r"(/dev/)?(tty(ACM|USB|S)\d+|cu\.usbmodem\w*|COM\d+)", re.IGNORECASE)
_TEXTS: Final = ("name", "runner", "console", "console_serial")
_COMMANDS: Final = ("probe_args", "reset", "power_off", "power_on")


@dataclass(frozen=True, slots=True)
class LabBoard:
    """One attached board. Commands have ``{probe}`` and ``{console}`` filled in when they run."""

    target: str
    probe: str
    broker_host: str
    name: str
    runner: str = ""
    console: str = ""
    console_serial: str = ""
    baud: int = 115_200
    probe_args: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    power_off: tuple[str, ...] = ()
    power_on: tuple[str, ...] = ()


def read_lab(path: Path) -> tuple[LabBoard, ...]:
    """Read a lab file. Raises ``ConfigError`` that names the board and the field at fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"lab file {path}: {error}") from error
    tables = document.get("board", [])
    if not isinstance(tables, list) or not tables or document.keys() != {"board"}:
        raise ConfigError(f"lab file {path}: it must consist of [[board]] tables")
    boards = tuple(
        _board(table, f"lab file {path}: board {number}") for number, table in enumerate(tables, 1)
    )
    for what in ("probe", "name"):
        values = [getattr(board, what) for board in boards]
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ConfigError(f"lab file {path}: two boards have the {what} {min(twice)!r}")
    return boards


def _board(table: dict[str, Any], where: str) -> LabBoard:
    known = set(LabBoard.__dataclass_fields__)
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigError(f"{where}: there is no field {unknown[0]!r}")
    values: dict[str, Any] = {
        key: _text(table, key, where) for key in ("target", "probe", "broker_host")
    }
    values["name"] = values["probe"]
    values.update((key, _text(table, key, where)) for key in _TEXTS if key in table)
    values.update((key, _command(table[key], key, where)) for key in _COMMANDS if key in table)
    baud = table.get("baud", 115_200)
    if not isinstance(baud, int) or isinstance(baud, bool) or baud <= 0:
        raise ConfigError(f"{where}: baud is {baud!r}, not a positive number")
    board = LabBoard(**values, baud=baud)
    if _BY_ORDER.fullmatch(board.console):
        raise ConfigError(
            f"{where}: console {board.console} depends on the order of plugging in",
            hint="give console_serial, or a path under /dev/serial/by-id",
        )
    if bool(board.power_off) != bool(board.power_on):
        raise ConfigError(f"{where}: power_off and power_on go together")
    return board


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} must be a text and not empty")
    return value


def _command(value: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(x, str) for x in value):
        raise ConfigError(f"{where}: {key} must be a list of words")
    return tuple(value)
