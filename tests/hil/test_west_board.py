"""A real board's class, against a pseudo-terminal and a stub of west."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hil_tests.boards import BoardError, FlashError, LabBoard, Port, WestBoard
from hil_tests.console import ConsoleError, ForbiddenOutput
from propeller_fl.firmware import DeviceSetup
from propeller_fl.link import BrokerAddress
from tests.hil.fakes import FakeBoard, built_image, install, install_west, real_board
from tests.support.wait import wait_until

SPEC = real_board()
SETUP = DeviceSetup("mcu-1", BrokerAddress("127.0.0.1", 1883))


@dataclass
class Lab:
    """Fake boards, and the commands that reach them."""

    directory: Path
    calls: Path
    plug_in: Callable[[str], FakeBoard]
    boards: list[WestBoard]

    def entry(self, fake: FakeBoard, *, power: bool = True) -> LabBoard:
        switch = str(self.directory / "switch")
        return LabBoard(
            target=SPEC.target,
            probe=fake.probe,
            broker_host="192.0.2.1",
            name=f"board-{fake.probe}",
            console=fake.console,
            power_off=(switch, "off", "{probe}") if power else (),
            power_on=(switch, "on", "{probe}") if power else (),
        )

    def board(self, entry: LabBoard, ports: Callable[[], Iterable[Port]] = lambda: ()) -> WestBoard:
        self.boards.append(WestBoard(SPEC, self.directory / "out", entry, ports=ports))
        return self.boards[-1]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    directory = tmp_path / "lab"
    directory.mkdir()
    calls = install_west(tmp_path / "bin", directory)
    install(directory / "switch", f'#!/bin/sh\necho "$1" > "{directory}/$2.switch"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    fakes: list[FakeBoard] = []

    def plug_in(probe: str) -> FakeBoard:
        fakes.append(FakeBoard(directory, probe))
        return fakes[-1]

    made = Lab(directory, calls, plug_in, [])
    yield made
    for board in made.boards:
        board.stop()
    for fake in fakes:
        fake.close()


def test_flash_boot_and_settings_over_the_shell(lab: Lab, tmp_path: Path) -> None:
    fake = lab.plug_in("P1")
    board = lab.board(lab.entry(fake))

    board.flash(built_image(SPEC, tmp_path / "build"))
    board.start(SETUP)
    board.console.expect("proplet is up", timeout_s=5)
    board.finish()

    assert fake.firmware == [str(tmp_path / "build")]
    assert fake.settings == {
        "proplet_id": "mcu-1",
        "broker_host": "192.0.2.1",  # as the board's network sees it, not 127.0.0.1
        "broker_port": "1883",
    }
    assert "--skip-rebuild --dev-id P1" in lab.calls.read_text()


def test_of_two_boards_the_one_with_the_probe_is_flashed_and_heard(
    lab: Lab, tmp_path: Path
) -> None:
    first, second = lab.plug_in("P1"), lab.plug_in("P2")
    second.boot_lines = b"the second one\r\nuart:~$ "
    board = lab.board(lab.entry(second))

    board.flash(built_image(SPEC, tmp_path / "build"))
    board.start(SETUP)
    board.console.expect("the second one", timeout_s=5)
    board.finish()

    assert second.settings["proplet_id"] == "mcu-1"
    assert (first.firmware, first.boots, first.settings) == ([], 0, {})


def test_a_wrong_probe_is_a_flash_error_with_the_tools_words(lab: Lab, tmp_path: Path) -> None:
    fake = lab.plug_in("P1")
    board = lab.board(replace(lab.entry(fake), probe="P9"))

    with pytest.raises(FlashError) as failure:
        board.flash(built_image(SPEC, tmp_path / "build"))

    message = str(failure.value)
    assert "no probe 'P9'; attached: ['P1']" in message
    assert "full log:" in message
    assert fake.firmware == []


def test_a_failed_flash_is_not_a_console_timeout(lab: Lab, tmp_path: Path) -> None:
    image = built_image(SPEC, tmp_path / "build")
    (image.build_dir / "damaged").touch()

    with pytest.raises(FlashError, match="verification failed") as failure:
        lab.board(lab.entry(lab.plug_in("P1"))).flash(image)

    assert not isinstance(failure.value, ConsoleError)


def test_west_that_is_not_there_is_a_flash_error(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(FlashError, match="cannot be run"):
        lab.board(lab.entry(lab.plug_in("P1"))).flash(built_image(SPEC, tmp_path / "build"))


def test_an_image_for_another_board_is_not_flashed(lab: Lab, tmp_path: Path) -> None:
    other = real_board("nucleo_f767zi")

    with pytest.raises(FlashError, match="nucleo_f767zi"):
        lab.board(lab.entry(lab.plug_in("P1"))).flash(built_image(other, tmp_path / "build"))

    assert lab.calls.read_text() == ""


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        ("jlink", "--runner jlink --dev-id P1"),
        ("openocd", "--runner openocd --cmd-pre-init adapter serial P1"),
        ("stm32cubeprogrammer", "--runner stm32cubeprogrammer --conn-modifiers sn=P1"),
    ],
)
def test_each_runner_is_told_the_probe_its_own_way(
    lab: Lab, tmp_path: Path, runner: str, words: str
) -> None:
    board = lab.board(replace(lab.entry(lab.plug_in("P1")), runner=runner))

    if "--dev-id" in words:
        board.flash(built_image(SPEC, tmp_path / "build"))
    else:  # the stub only knows --dev-id
        with pytest.raises(FlashError):
            board.flash(built_image(SPEC, tmp_path / "build"))

    assert words in lab.calls.read_text()


def test_an_unknown_runner_needs_probe_args(lab: Lab, tmp_path: Path) -> None:
    entry = replace(lab.entry(lab.plug_in("P1")), runner="dfu-util")
    image = built_image(SPEC, tmp_path / "build")

    with pytest.raises(FlashError, match="probe_args"):
        lab.board(entry).flash(image)
    lab.board(replace(entry, probe_args=("--dev-id", "{probe}"))).flash(image)


def test_a_crash_while_waiting_fails(lab: Lab, tmp_path: Path) -> None:
    fake = lab.plug_in("P1")
    board = lab.board(lab.entry(fake))
    board.flash(built_image(SPEC, tmp_path / "build"))
    board.start(SETUP)

    fake.say(b"E: >>> ZEPHYR FATAL ERROR 4\r\n")

    with pytest.raises(ForbiddenOutput, match="FATAL ERROR"):
        board.console.expect("connected", timeout_s=60)


def test_a_crash_that_nobody_waited_for_fails_in_the_end(lab: Lab, tmp_path: Path) -> None:
    fake = lab.plug_in("P1")
    board = lab.board(lab.entry(fake))
    board.flash(built_image(SPEC, tmp_path / "build"))
    board.start(SETUP)
    log = board.console.log_path

    fake.say(b"ASSERTION FAIL\r\n")
    wait_until(lambda: b"ASSERTION" in log.read_bytes(), 5, "the console's log has the line")

    with pytest.raises(ForbiddenOutput):
        board.finish()


def test_power_cut_silences_it_and_reset_brings_it_back(lab: Lab, tmp_path: Path) -> None:
    fake = lab.plug_in("P1")
    board = lab.board(lab.entry(fake))
    board.flash(built_image(SPEC, tmp_path / "build"))
    board.start(SETUP)
    board.console.expect("proplet is up", timeout_s=5)
    boots = fake.boots

    board.power_cut()
    wait_until(lambda: not fake.powered, 5, "the board is dark")
    board.reset()
    board.console.expect("proplet is up", timeout_s=5)
    board.finish()

    assert fake.boots == boots + 1


def test_without_a_power_switch_a_power_cut_is_refused(lab: Lab) -> None:
    board = lab.board(lab.entry(lab.plug_in("P1"), power=False))

    assert not board.can_cut_power
    with pytest.raises(BoardError, match="power_off"):
        board.power_cut()


def test_without_reset_and_power_it_is_flashed_again(lab: Lab, tmp_path: Path) -> None:
    fake = lab.plug_in("P1")
    board = lab.board(lab.entry(fake, power=False))
    board.flash(built_image(SPEC, tmp_path / "build"))

    board.start(SETUP)
    board.finish()

    assert len(fake.firmware) == 3  # flash, and two boots: before the settings and after


def test_a_setting_that_the_firmware_refuses_fails(lab: Lab, tmp_path: Path) -> None:
    board = lab.board(lab.entry(lab.plug_in("P1")))
    board.flash(built_image(SPEC, tmp_path / "build"))

    with pytest.raises(ForbiddenOutput, match="unknown, too long or impossible"):
        board.start(DeviceSetup("mcu-1", BrokerAddress("127.0.0.1", 1883, "u", "p")))


@dataclass(frozen=True)
class ListedPort:
    device: str
    serial_number: str | None


def test_its_console_is_found_by_serial_number(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.plug_in("P1"), lab.plug_in("P2")
    second.boot_lines = b"the second one\r\nuart:~$ "
    entry = replace(lab.entry(second), console="")
    ports = [
        ListedPort(first.console, "P1"),
        ListedPort(second.console, "P2"),
        ListedPort("/dev/ttyS0", None),
    ]
    board = lab.board(entry, lambda: ports)

    board.flash(built_image(SPEC, tmp_path / "build"))
    board.start(SETUP)
    board.console.expect("the second one", timeout_s=5)
    board.finish()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((None, "P7"), "no serial port has the serial number P1"), (("P1", "P1"), "all have")],
)
def test_a_console_that_is_not_there_or_not_one_is_said_so(
    lab: Lab, tmp_path: Path, numbers: tuple[str | None, str | None], words: str
) -> None:
    fake = lab.plug_in("P1")
    entry = replace(lab.entry(fake, power=False), console="")
    ports = [ListedPort(f"/dev/port{index}", number) for index, number in enumerate(numbers)]
    board = lab.board(entry, lambda: ports)
    board.flash(built_image(SPEC, tmp_path / "build"))

    with pytest.raises(BoardError, match=words):
        board.start(SETUP)
