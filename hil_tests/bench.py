"""The bench of one test session: builds each firmware once and hands out boards that run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hil_tests.boards import Board, LabBoard, make_board
from propeller_fl.firmware import BoardKind, BoardSpec, FirmwareImage

VARIANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},  # what is shipped
    "short-run": {"CONFIG_FL_RUN_LIMIT_S": "3"},
    # by the key whose private half is SIGNING_KEY in test_signed.py
    "signed": {
        "CONFIG_FL_REQUIRE_SIGNATURE": "y",
        "CONFIG_FL_TRUSTED_KEYS_FILE": f'"{Path(__file__).with_name("signing_key.pub")}"',
    },
    # as boards with flash of their own have it
    "shell": {
        "EXTRA_CONF_FILE": "overlay-tls.conf",
        "CONFIG_FL_TLS_HOST_NAME": '"127.0.0.1"',
        "CONFIG_NVS": "y",
        "CONFIG_SETTINGS": "y",
        "CONFIG_SHELL": "y",
    },
    # the name in the test broker's certificate, whatever address a board reaches it by
    "tls": {"EXTRA_CONF_FILE": "overlay-tls.conf", "CONFIG_FL_TLS_HOST_NAME": '"127.0.0.1"'},
}
"""The firmwares that the cases need: what each sets on top of the board's own."""

_SIMULATED_BOARDS: Final = 4


@dataclass
class Bench:
    """All boards of one target: as many as wanted of a simulated one, else those of the lab."""

    spec: BoardSpec
    lab: tuple[LabBoard, ...] = ()
    _images: dict[str, FirmwareImage] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many boards there are."""
        return len(self.lab) if self.spec.kind is BoardKind.WEST else _SIMULATED_BOARDS

    @property
    def broker_host(self) -> str:
        """Where a broker must listen for the boards to reach it."""
        return "0.0.0.0" if self.spec.kind is BoardKind.WEST else "127.0.0.1"

    def build(self, variant: str) -> None:
        """Bring the firmware up to date; it stays so for the session."""
        if variant not in self._images:
            board = self._make(Path(), 0)
            self._images[variant] = board.build(variant, VARIANTS[variant])

    def board(self, directory: Path, variant: str, number: int) -> Board:
        """Board ``number`` with its firmware on it, not yet started."""
        self.build(variant)
        board = self._make(directory, number)
        board.flash(self._images[variant])
        return board

    def _make(self, directory: Path, number: int) -> Board:
        return make_board(self.spec, directory, self.lab[number] if self.lab else None)
