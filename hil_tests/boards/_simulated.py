"""Boards that are processes of this machine."""

from __future__ import annotations

from hil_tests.boards._board import Board, BoardError, FlashError
from hil_tests.console import Console
from propeller_fl.errors import PropellerError
from propeller_fl.firmware import DeviceSetup, FirmwareDevice, FirmwareImage


class _Simulated(Board):
    """A program that is the board: flashing is having it, a power cut is SIGKILL."""

    _device: FirmwareDevice | None = None

    def flash(self, image: FirmwareImage) -> None:
        if image.board != self.spec:
            raise FlashError(f"an image for {image.board.target} is none for {self.spec.target}")
        if not image.program.is_file():
            raise FlashError(f"there is no {image.program}: build it first")
        self._image = image

    def start(self, setup: DeviceSetup) -> None:
        self.stop()
        self._device = FirmwareDevice(self.image, setup, self.directory)
        if self._console is None:
            self._console = Console(self._device.log_path, self._gone)
        self._boot(self._device)

    def reset(self) -> None:
        device = self._started()
        device.kill()
        self._boot(device)

    def power_cut(self) -> None:
        self._started().kill()

    def stop(self) -> None:
        if self._device is not None:
            self._device.stop()

    def _boot(self, device: FirmwareDevice) -> None:
        try:
            device.start()
        except PropellerError as error:
            raise BoardError(str(error)) from error

    def _started(self) -> FirmwareDevice:
        if self._device is None:
            raise BoardError(f"{self.spec.target} was not started")
        return self._device

    def _gone(self) -> str | None:
        status = self._started().status
        return None if status is None else f"its process ended with status {status}"


class NativeSimBoard(_Simulated):
    """Zephyr's native_sim: the firmware as a program."""


class QemuBoard(_Simulated):
    """A machine that QEMU emulates, its network by way of this machine's loopback."""
