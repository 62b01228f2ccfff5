"""What a test may do with a board, whatever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from hil_tests.console import Console
from propeller_fl.firmware import BoardSpec, DeviceSetup, FirmwareImage, build_firmware


class BoardError(AssertionError):
    """The board, or what reaches it, did not do its part: no fault of the firmware."""


class FlashError(BoardError):
    """The firmware could not be put onto the board; nothing that follows means anything."""


class Board(ABC):
    """A board that runs the firmware. The order: build, flash, start, anything, stop.

    ``directory`` takes the console's log and whatever else it leaves behind.
    """

    def __init__(self, spec: BoardSpec, directory: Path) -> None:
        self.spec = spec
        self.directory = directory
        self._console: Console | None = None
        self._image: FirmwareImage | None = None

    @property
    def image(self) -> FirmwareImage:
        """The firmware that is on it."""
        if self._image is None:
            raise BoardError(f"{self.spec.target} has no firmware: flash it first")
        return self._image

    @property
    def console(self) -> Console:
        """What it says, from the first start to the last stop; of use once it was started."""
        if self._console is None:
            raise BoardError(f"{self.spec.target} was not started: it has no console yet")
        return self._console

    def build(self, variant: str = "", options: Mapping[str, str] | None = None) -> FirmwareImage:
        """Build the firmware, with these options on top; see ``build_firmware``."""
        return build_firmware(self.spec, variant=variant, options=options)

    @abstractmethod
    def flash(self, image: FirmwareImage) -> None:
        """Put the firmware onto it. ``FlashError`` with the tool's own words when that fails."""

    @abstractmethod
    def start(self, setup: DeviceSetup) -> None:
        """Give it its settings and data, and boot it."""

    @abstractmethod
    def reset(self) -> None:
        """Boot it again: the same firmware, settings and data."""

    @abstractmethod
    def power_cut(self) -> None:
        """Take its power away in the middle of whatever it does; :meth:`reset` brings it back."""

    @abstractmethod
    def stop(self) -> None:
        """Leave it, switched off where that is possible. Again is harmless."""

    def finish(self) -> None:
        """Stop it, and fail if it said what it must not while nobody waited."""
        self.stop()
        if self._console is not None:
            try:
                self._console.check()
            finally:
                self._console.close()
                self._console = None
