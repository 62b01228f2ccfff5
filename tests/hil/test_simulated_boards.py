"""Simulated boards, with a script in place of the firmware or of the emulator."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil_tests.boards import Board, BoardError, FlashError, NativeSimBoard, QemuBoard, make_board
from hil_tests.console import ConsoleError, ForbiddenOutput
from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.firmware import BoardKind, BoardSpec, DeviceSetup, FirmwareDevice, QemuMachine
from propeller_fl.link import BrokerAddress, TlsOptions
from tests.hil.fakes import built_image, install, real_board
from tests.support.wait import wait_until

SETUP = DeviceSetup("mcu-1", BrokerAddress("127.0.0.1", 1883))
NATIVE = BoardSpec("native_sim", "native_sim/native/64", BoardKind.NATIVE, "a program")

# Prints its arguments, a line each, and waits to be ended.
PROGRAM = f"""#!{sys.executable}
import signal, sys
print("booted", *sys.argv[1:], sep="\\n", flush=True)
signal.pause()
"""


@pytest.fixture
def native(tmp_path: Path) -> Iterator[NativeSimBoard]:
    board = NativeSimBoard(NATIVE, tmp_path / "out")
    board.flash(built_image(NATIVE, tmp_path / "build", PROGRAM))
    yield board
    board.stop()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[QemuBoard]:
    emulator = install(tmp_path / "qemu", PROGRAM)
    machine = QemuMachine(str(emulator), "mps2-an385", "lan9118", 0x21F0_0000, 0x2100_0000)
    spec = BoardSpec("mps2_an385", "mps2/an385", BoardKind.QEMU, "an emulated one", machine)
    board = QemuBoard(spec, tmp_path / "out")
    board.flash(built_image(spec, tmp_path / "build"))
    yield board
    board.stop()


def option(board: Board, pattern: str) -> str:
    return board.console.expect(pattern, timeout_s=5)[1].decode()


def unpack(path: str, kind: bytes) -> bytes:
    """The payload of a blob, whose header is checked."""
    content = Path(path).read_bytes()
    payload = content[44:]
    assert content[:8] == b"FLB1" + kind
    assert int.from_bytes(content[8:12], "little") == len(payload)
    assert content[12:44] == hashlib.sha256(payload).digest()
    return payload


def test_native_gets_its_settings_and_data_as_files(native: NativeSimBoard, tmp_path: Path) -> None:
    data = tmp_path / "data.cbor"
    data.write_bytes(b"x")

    native.start(replace(SETUP, data=data, topic_prefix="m/t/c/ch"))

    config = Path(option(native, r"--fl-config=(\S+)\n"))
    assert config.read_text().splitlines() == [
        "proplet_id=mcu-1",
        "broker_host=127.0.0.1",
        "broker_port=1883",
        "topic_prefix=m/t/c/ch",
    ]
    assert option(native, r"--fl-data=(\S+)\n") == str(data)
    native.finish()


def test_qemu_gets_its_settings_and_data_as_blobs(qemu: QemuBoard, tmp_path: Path) -> None:
    data = tmp_path / "data.cbor"
    data.write_bytes(b"\xa1" * 1000)

    qemu.start(replace(SETUP, data=data))

    assert option(qemu, r"-nic\nuser,model=lan9118,mac=(02:\S{14})\n")
    config = option(qemu, r"loader,file=(\S+),addr=0x21f00000,force-raw=on\n")
    loaded = option(qemu, r"loader,file=(\S+),addr=0x21000000,force-raw=on\n")
    assert b"broker_host=10.0.2.2\n" in unpack(config, b"conf")  # this machine, seen from inside
    assert unpack(loaded, b"data") == data.read_bytes()
    qemu.finish()


def test_qemu_sees_a_broker_elsewhere_where_it_is(qemu: QemuBoard) -> None:
    qemu.start(replace(SETUP, broker=BrokerAddress("192.0.2.7", 1883)))

    config = option(qemu, r"loader,file=(\S+),addr=0x21f00000")
    assert b"broker_host=192.0.2.7\n" in unpack(config, b"conf")


def test_login_and_certificates_are_part_of_the_settings(tmp_path: Path) -> None:
    der = bytes(range(200))
    body = base64.encodebytes(der).decode()
    ca = tmp_path / "ca.pem"
    ca.write_text(f"a remark\n-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    broker = BrokerAddress("127.0.0.1", 8883, "me", "secret", tls=TlsOptions(ca_file=ca))

    settings = DeviceSetup("mcu-1", broker).settings()

    assert (settings["broker_user"], settings["broker_password"]) == ("me", "secret")
    assert base64.b64decode(settings["tls_ca"]) == der


def test_what_is_no_pem_file_is_refused(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(b"\x30\x82")
    broker = BrokerAddress("127.0.0.1", 8883, tls=TlsOptions(ca_file=ca))

    with pytest.raises(ConfigError, match=r"ca\.pem"):
        DeviceSetup("mcu-1", broker).settings()


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(MessageError, match="proplet_id"):
        DeviceSetup("a/b", BrokerAddress("127.0.0.1", 1883))


def test_reset_boots_again_and_the_log_goes_on(native: NativeSimBoard) -> None:
    native.start(SETUP)
    native.console.expect("booted", timeout_s=5)

    native.reset()

    native.console.expect("booted", timeout_s=5)
    assert native.console.log_path.read_text().count("booted") == 2


def test_a_power_cut_ends_it_without_a_word(native: NativeSimBoard) -> None:
    native.start(SETUP)
    native.console.expect("booted", timeout_s=5)

    native.power_cut()

    with pytest.raises(ConsoleError, match="ended with status -9"):
        native.console.expect("anything", timeout_s=3600)
    native.reset()
    native.console.expect("booted", timeout_s=5)


def test_firmware_that_ends_fails_the_wait_with_its_last_words(tmp_path: Path) -> None:
    board = NativeSimBoard(NATIVE, tmp_path / "out")
    board.flash(built_image(NATIVE, tmp_path / "build", "#!/bin/sh\necho no id; exit 3\n"))
    board.start(SETUP)

    with pytest.raises(ConsoleError, match=r"status 3(.|\n)*no id"):
        board.console.expect("connected", timeout_s=3600)


def test_a_crash_that_nobody_waited_for_fails_in_the_end(tmp_path: Path) -> None:
    board = NativeSimBoard(NATIVE, tmp_path / "out")
    board.flash(built_image(NATIVE, tmp_path / "build", "#!/bin/sh\necho ASSERTION FAIL\n"))
    board.start(SETUP)
    log = board.console.log_path
    wait_until(lambda: b"ASSERTION" in log.read_bytes(), 5, "the log has the line")

    with pytest.raises(ForbiddenOutput):
        board.finish()


def test_stop_leaves_no_process(native: NativeSimBoard) -> None:
    native.start(SETUP)
    native.console.expect("booted", timeout_s=5)

    native.finish()
    native.stop()

    with pytest.raises(BoardError, match="was not started"):
        native.console.expect("anything", timeout_s=1)


def test_flash_wants_an_image_of_its_own(tmp_path: Path) -> None:
    board = NativeSimBoard(NATIVE, tmp_path)

    with pytest.raises(FlashError, match="frdm_k64f"):
        board.flash(built_image(real_board(), tmp_path / "other"))
    image = built_image(NATIVE, tmp_path / "build", PROGRAM)
    image.program.unlink()
    with pytest.raises(FlashError, match="build it first"):
        board.flash(image)


def test_start_wants_firmware_that_can_be_run(tmp_path: Path) -> None:
    board = NativeSimBoard(NATIVE, tmp_path / "out")
    with pytest.raises(BoardError, match="flash it first"):
        board.start(SETUP)


def test_two_emulated_boards_have_their_own_hardware_addresses(
    qemu: QemuBoard, tmp_path: Path
) -> None:
    seen = []
    for proplet_id in ("mcu-1", "mcu-2"):
        qemu.start(replace(SETUP, proplet_id=proplet_id))
        log = tmp_path / "out" / f"{proplet_id}.log"
        wait_until(lambda log=log: "mac=" in log.read_text(), 5, "it has booted")  # type: ignore[misc]
        seen.append(log.read_text().partition("mac=")[2].partition("\n")[0])

    assert seen[0] != seen[1]


def test_the_registry_goes_by_kind(tmp_path: Path) -> None:
    assert isinstance(make_board(NATIVE, tmp_path), NativeSimBoard)
    with pytest.raises(BoardError, match="lab file"):
        make_board(real_board(), tmp_path)


def test_a_real_board_is_no_process(tmp_path: Path) -> None:
    image = built_image(real_board(), tmp_path / "build")

    with pytest.raises(ConfigError, match="real board"):
        FirmwareDevice(image, SETUP, tmp_path)
