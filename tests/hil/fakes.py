"""Stand-ins for what is outside the harness: an attached board, west, an emulator."""

from __future__ import annotations

import os
import select
import stat
import sys
import termios
import threading
import tty
from collections.abc import Collection
from pathlib import Path

from propeller_fl.firmware import BoardKind, BoardSpec, FirmwareImage
from tests.support.board_shell import BoardShell

BOOT = b"*** Booting Zephyr OS ***\r\nproplet is up\r\nuart:~$ "
_PROMPT = b"uart:~$ "

STUB_WEST = """#!{python}
import os, pathlib, sys

words = sys.argv[1:]
with open({log!r}, "a") as log:
    print(*words, file=log)
build = pathlib.Path(words[words.index("-d") + 1])
probe = words[words.index("--dev-id") + 1] if "--dev-id" in words else ""
switch = pathlib.Path({lab!r}) / (probe + ".switch")
if not switch.exists():
    attached = sorted(path.stem for path in pathlib.Path({lab!r}).glob("*.switch"))
    sys.exit(f"error: no probe {{probe!r}}; attached: {{attached}}")
if (build / "damaged").exists():
    sys.exit("error: verification failed at 0x08000000")
print("flashed", build)
if words[0] == "flash":
    with open(switch, "w") as file:
        print(f"firmware {{build}}", file=file)
"""


class FakeBoard:
    """A board with a debug probe and a serial console, which is a pseudo-terminal.

    What happens to its probe and its power comes as lines through ``lab/<probe>.switch``, a named
    pipe: ``firmware <path>`` and ``on`` boot it, ``off`` silences it.
    """

    def __init__(self, lab: Path, probe: str, refused: Collection[str] = ("broker_user",)) -> None:
        self.probe = probe
        self.firmware: list[str] = []
        self._shell = BoardShell(refused)
        self.settings = self._shell.settings
        self._begun = b""
        self.boots = 0
        self.powered = True
        self.boot_lines = BOOT
        self.switch = lab / f"{probe}.switch"
        os.mkfifo(self.switch)
        self._switch = os.open(self.switch, os.O_RDWR)
        self._wire, line = os.openpty()
        tty.setraw(line, termios.TCSANOW)
        self._line = line  # kept open, so that the wire does not hang up between two listeners
        self.console = os.ttyname(line)
        self._end_of_life = os.pipe()
        self._thread = threading.Thread(target=self._live, name=f"board {probe}")
        self._thread.start()

    def say(self, text: bytes) -> None:
        os.write(self._wire, text)

    def close(self) -> None:
        os.write(self._end_of_life[1], b"x")
        self._thread.join()
        for descriptor in (self._switch, self._wire, self._line, *self._end_of_life):
            os.close(descriptor)

    def _live(self) -> None:
        while True:
            ready, _, _ = select.select([self._switch, self._wire, self._end_of_life[0]], [], [])
            if self._end_of_life[0] in ready:
                return
            if self._switch in ready:
                for line in os.read(self._switch, 4096).decode().splitlines():
                    self._turn(line)
            if self._wire in ready:
                self._hear(os.read(self._wire, 4096))

    def _turn(self, line: str) -> None:
        what, _, path = line.partition(" ")
        self.powered = what != "off"
        if what == "firmware":
            self.firmware.append(path)
        if self.powered:
            self.boots += 1
            self.say(self.boot_lines)

    def _hear(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in (one.decode().rstrip("\r") for one in lines):
            self.say(line.encode() + b"\r\n")
            answer = self._shell.type(line)
            if answer:
                self.say(f"{answer}\r\n".encode())
            self.say(_PROMPT)


def install(path: Path, text: str) -> Path:
    """An executable script at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def install_west(bin_dir: Path, lab: Path) -> Path:
    """A ``west`` that flashes the fake boards of ``lab``; returns its log of calls."""
    log = lab / "west-calls.log"
    log.touch()
    install(bin_dir / "west", STUB_WEST.format(python=sys.executable, log=str(log), lab=str(lab)))
    return log


def built_image(spec: BoardSpec, build_dir: Path, program: str = "") -> FirmwareImage:
    """An image as ``west build`` leaves it; ``program``: a script to be run as the firmware."""
    image = FirmwareImage(spec, build_dir)
    install(image.program, program)
    (build_dir / "zephyr" / "runners.yaml").write_text("flash-runner: pyocd\n")
    return image


def real_board(target: str = "frdm_k64f") -> BoardSpec:
    return BoardSpec(target, "frdm_k64f", BoardKind.WEST, "a board with a probe")
