"""The lab file: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests.boards import read_lab
from propeller_fl.errors import ConfigError

BOARD = '[[board]]\ntarget = "frdm_k64f"\nprobe = "P1"\nbroker_host = "192.0.2.1"\n'


def test_a_board_with_defaults_and_one_with_everything(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        BOARD
        + '[[board]]\ntarget = "esp32s3_devkitc"\nprobe = "P2"\nbroker_host = "192.0.2.1"\n'
        + 'name = "esp"\nrunner = "esp32"\nconsole_serial = "A1"\nbaud = 9600\n'
        + 'reset = ["tool", "{probe}"]\npower_off = ["off"]\npower_on = ["on"]\n'
    )

    plain, full = read_lab(path)

    assert (plain.name, plain.baud, plain.reset) == ("P1", 115_200, ())
    assert (full.name, full.baud, full.reset) == ("esp", 9600, ("tool", "{probe}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "[[board]]"),
        ("[[board", "lab.toml"),
        ('[board]\ntarget = "x"\n', "[[board]]"),
        (BOARD.replace('probe = "P1"\n', ""), "board 1: probe"),
        (BOARD.replace('"P1"', "17"), "board 1: probe"),
        (BOARD + BOARD, "two boards have the probe 'P1'"),
        (
            BOARD + 'name = "a"\n' + BOARD.replace("P1", "P2") + 'name = "a"\n',
            "two boards have the name 'a'",
        ),
        (BOARD + 'consol = "x"\n', "no field 'consol'"),
        (BOARD + 'baud = "fast"\n', "baud"),
        (BOARD + 'reset = "pyocd reset"\n', "reset must be a list"),
        (BOARD + 'power_off = ["off"]\n', "power_off and power_on"),
        (BOARD + 'console = "/dev/ttyACM0"\n', "order of plugging in"),
        (BOARD + 'console = "/dev/ttyUSB12"\n', "order of plugging in"),
        (BOARD + 'console = "COM3"\n', "order of plugging in"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as failure:
        read_lab(path)

    assert words in str(failure.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_lab(tmp_path / "nowhere.toml")
