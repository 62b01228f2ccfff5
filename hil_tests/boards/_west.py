"""Real boards: flashed by west, heard over a serial port."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

import serial
from pytest_embedded_serial.serial import Serial
from serial.tools import list_ports

from hil_tests.boards._board import Board, BoardError, FlashError
from hil_tests.boards._lab import LabBoard
from hil_tests.console import Console
from propeller_fl.firmware import BoardSpec, DeviceSetup, FirmwareImage, shell_lines

_log = logging.getLogger(__name__)

_FLASH_TIMEOUT_S: Final = 180.0
_COMMAND_TIMEOUT_S: Final = 60.0
_PORT_TIMEOUT_S: Final = 30.0
_SHELL_TIMEOUT_S: Final = 30.0
_PROMPT: Final = r"uart:~\$ "
_SHELL_ERROR: Final = "fl: refused: "
_LAST_LINES: Final = 15
_FLASH_RUNNER: Final = re.compile(r"^flash-runner:\s*(\S+)", re.MULTILINE)

_BY_PROBE: Final = {
    "esp32": ("--esp-device", "{console}"),  # it is flashed through its console
    "jlink": ("--dev-id", "{probe}"),
    "linkserver": ("--dev-id", "{probe}"),
    "nrfutil": ("--dev-id", "{probe}"),
    "openocd": ("--cmd-pre-init", "adapter serial {probe}"),
    "probe-rs": ("--dev-id", "{probe}"),
    "pyocd": ("--dev-id", "{probe}"),
    "stm32cubeprogrammer": ("--conn-modifiers", "sn={probe}"),
}
"""How each of west's runners is told which probe to use."""


class Port(Protocol):
    """A serial port of this machine, as pyserial lists it."""

    @property
    def device(self) -> str: ...

    @property
    def serial_number(self) -> str | None: ...


class _LogQueue:
    """Where pytest-embedded's serial service puts what it has read: the end of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, data: bytes) -> None:
        if data:
            with self._path.open("ab") as log:
                log.write(data)


class WestBoard(Board):
    """A board of the lab file. ``west``: the command; ``ports``: lists this machine's ports."""

    def __init__(
        self,
        spec: BoardSpec,
        directory: Path,
        lab: LabBoard,
        west: Sequence[str] = ("west",),
        environment: dict[str, str] | None = None,
        ports: Callable[[], Iterable[Port]] = list_ports.comports,
    ) -> None:
        super().__init__(spec, directory)
        self._lab = lab
        self._west = tuple(west)
        self._environment = environment
        self._ports = ports
        self._serial: Serial | None = None
        self._dark = False

    @property
    def can_cut_power(self) -> bool:
        return bool(self._lab.power_off)

    def flash(self, image: FirmwareImage) -> None:
        if image.board != self.spec:
            raise FlashError(f"an image for {image.board.target} is none for {self.spec.target}")
        if "{console}" in " ".join(self._probe_words(image)):
            self._hang_up()  # it is flashed through its console
        self._west_tool("flash", image, "--skip-rebuild")
        self._image = image

    def start(self, setup: DeviceSetup) -> None:
        self._boot()
        self._shell("")
        for line in shell_lines(setup.settings(self._lab.broker_host)):
            self._shell(line)
        if setup.data is not None:
            self._write_data(setup.data)
        self._boot()

    def reset(self) -> None:
        self._boot()

    def power_cut(self) -> None:
        if not self._lab.power_off:
            raise BoardError(f"{self._lab.name}: the lab file has no power_off for it")
        self._hang_up()
        self._tool(self._lab.power_off, _COMMAND_TIMEOUT_S, BoardError)
        self._dark = True

    def stop(self) -> None:
        self._hang_up()

    # Booting and talking.

    def _boot(self) -> None:
        """Make it start anew, listening before that where its port is there, to hear all of it."""
        if self._dark:
            self._listen(wait=False)
            self._tool(self._lab.power_on, _COMMAND_TIMEOUT_S, BoardError)
            self._dark = False
            self._listen()  # a console of its own USB appears only now
        elif self._lab.reset:
            self._listen()
            self._tool(self._lab.reset, _COMMAND_TIMEOUT_S, BoardError)
        elif self._lab.power_off:
            self.power_cut()
            self._boot()
        elif self._image is not None:
            self._listen()
            self.flash(self._image)  # it ends with a reset
            self._listen()
        else:
            raise BoardError(f"{self._lab.name} has no firmware, and no way to be reset")

    def _shell(self, line: str) -> None:
        assert self._serial is not None
        self._serial.proc.write(line.encode() + b"\n")
        if line:
            self.console.expect(re.escape(line), _SHELL_TIMEOUT_S)  # its echo
        self.console.expect(_PROMPT, _SHELL_TIMEOUT_S, not_matching=(_SHELL_ERROR,))

    def _write_data(self, data: Path) -> None:
        self._west_tool("fl-data", self.image, str(data.resolve()))

    def _listen(self, *, wait: bool = True) -> None:
        """Open its console, unless that is open; without ``wait``, only if it is there."""
        if self._serial is not None:
            return
        log_path = self.directory / f"{self._lab.name}.log"
        if self._console is None:
            self._console = Console(log_path)
        try:
            port = self._await_port() if wait else self._console_device()
        except BoardError:
            if wait:
                raise
            return
        try:
            self._serial = Serial(_LogQueue(log_path), port=port, baud=self._lab.baud)
        except (OSError, serial.SerialException) as error:
            raise BoardError(f"{self._lab.name}: its console {port}: {error}") from error

    def _hang_up(self) -> None:
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    # Finding it.

    def _await_port(self) -> str:
        """Its console's device; after a power cut, USB takes a moment to bring it back."""
        deadline = time.monotonic() + _PORT_TIMEOUT_S
        while True:
            try:
                return self._console_device()
            except BoardError:
                if not self._lab.power_off or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _console_device(self) -> str:
        if self._lab.console:
            if not Path(self._lab.console).exists():
                raise BoardError(f"{self._lab.name}: there is no console {self._lab.console}")
            return self._lab.console
        wanted = self._lab.console_serial or self._lab.probe
        ports = list(self._ports())
        found = [port.device for port in ports if port.serial_number == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise BoardError(
                f"{self._lab.name}: {', '.join(found)} all have the serial number {wanted}; "
                "give the console's path under /dev/serial/by-id in the lab file"
            )
        there = ", ".join(f"{port.device} ({port.serial_number})" for port in ports) or "none"
        raise BoardError(
            f"{self._lab.name}: no serial port has the serial number {wanted}; there are: {there}"
        )

    def _west_tool(self, command: str, image: FirmwareImage, *words: str) -> None:
        line = [*self._west, command, "-d", str(image.build_dir), *words]
        if self._lab.runner:
            line += ["--runner", self._lab.runner]
        self._tool([*line, *self._probe_words(image)], _FLASH_TIMEOUT_S, FlashError)

    def _probe_words(self, image: FirmwareImage) -> tuple[str, ...]:
        """How the runner is told which probe to use, not yet filled in."""
        if self._lab.probe_args:
            return self._lab.probe_args
        runner = self._lab.runner or _default_runner(image)
        if runner not in _BY_PROBE:
            raise FlashError(
                f"{self._lab.name}: how to tell the runner {runner!r} which probe to use is not "
                "known here; give probe_args in the lab file"
            )
        return _BY_PROBE[runner]

    def _fill(self, word: str) -> str:
        if "{console}" in word:
            word = word.replace("{console}", self._console_device())
        return word.replace("{probe}", self._lab.probe)

    def _tool(self, command: Sequence[str], timeout_s: float, failure: type[BoardError]) -> None:
        words = [self._fill(word) for word in command]
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / f"{self._lab.name}-tools.log"
        with log.open("a+b") as out:
            out.write(f"$ {' '.join(words)}\n".encode())
            out.flush()
            start = out.tell()
            try:
                status: int | str = subprocess.run(
                    words,
                    env=self._environment or dict(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    timeout=timeout_s,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = f"none: it took over {timeout_s:g} s"
            except OSError as error:
                status = f"none: it cannot be run: {error}"
            out.seek(start)
            said = out.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
        if status != 0:
            last = "\n".join(f"  | {line}" for line in said) or "  | (nothing)"
            raise failure(
                f"{self._lab.name} (probe {self._lab.probe}): status {status} of "
                f"{' '.join(words)}\nlast lines:\n{last}\nfull log: {log}"
            )


def _default_runner(image: FirmwareImage) -> str:
    """The runner that ``west flash`` will use when it is not told another."""
    path = image.build_dir / "zephyr" / "runners.yaml"
    try:
        found = _FLASH_RUNNER.search(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FlashError(f"{path}: {error.strerror}; build the firmware first") from error
    if found is None:
        raise FlashError(f"{path} names no flash-runner: this board cannot be flashed by west")
    return found[1]
