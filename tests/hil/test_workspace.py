"""Finding the Zephyr workspace, and saying what is missing; board.yaml files."""

from __future__ import annotations

from pathlib import Path

import pytest

from propeller_fl.errors import ConfigError
from propeller_fl.firmware import BoardKind, find_board, find_workspace, list_boards, missing
from tests.hil.fakes import install

BOARD_YAML = """
zephyr_board: mps2/an385
purpose: >-
  an emulated one
kind: qemu
qemu:
  machine: mps2-an385
  nic: lan9118
  data_address: 0x21000000
  config_address: 0x21f00000
"""


@pytest.fixture
def topdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace as ``west init`` and ``west update`` leave it, with its own west; not yet found.

    The environment has neither ZEPHYR_BASE nor a west on PATH, and HOME is empty.
    """
    topdir = tmp_path / "fl"
    (topdir / ".west").mkdir(parents=True)
    (topdir / ".west" / "config").write_text("[zephyr]\nbase = deps/zephyr\n")
    base = topdir / "deps" / "zephyr"
    base.mkdir(parents=True)
    (base / "VERSION").write_text("VERSION_MAJOR = 4\nVERSION_MINOR = 2\nPATCHLEVEL = 1\n")
    (topdir / "modules" / "lib" / "wasm-micro-runtime").mkdir(parents=True)
    install(topdir / ".venv" / "bin" / "west", "#!/bin/sh\n")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("ZEPHYR_BASE", raising=False)
    monkeypatch.chdir(home)
    return topdir


def register(topdir: Path) -> None:
    entry = Path.home() / ".cmake" / "packages" / "Zephyr" / "0123"
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(f"{topdir / 'deps' / 'zephyr' / 'share' / 'zephyr-package' / 'cmake'}\n")


def test_it_is_found_by_zephyr_base(topdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_workspace() is None
    monkeypatch.setenv("ZEPHYR_BASE", str(topdir / "deps" / "zephyr"))

    found = find_workspace()

    assert found is not None
    assert (found.topdir, found.version) == (topdir, "4.2.1")
    assert found.west == topdir / ".venv" / "bin" / "west"


def test_it_is_found_around_the_current_directory(
    topdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = topdir / "propeller-fl" / "firmware"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)

    found = find_workspace()

    assert found is not None
    assert found.zephyr_base == topdir / "deps" / "zephyr"


def test_it_is_found_in_cmakes_registry(topdir: Path) -> None:
    register(topdir)

    found = find_workspace()

    assert found is not None
    assert found.topdir == topdir


def test_a_registry_entry_of_what_has_gone_is_passed_over(topdir: Path, tmp_path: Path) -> None:
    register(tmp_path / "gone")

    assert find_workspace() is None


def test_the_build_sees_this_workspace_and_its_west_first(
    topdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(topdir)
    monkeypatch.setenv("ZEPHYR_TOOLCHAIN_VARIANT", "zephyr")
    found = find_workspace()
    assert found is not None

    environment = found.environment()

    assert environment["ZEPHYR_BASE"] == str(topdir / "deps" / "zephyr")
    assert environment["PATH"].startswith(str(topdir / ".venv" / "bin"))
    assert environment["ZEPHYR_TOOLCHAIN_VARIANT"] == "zephyr"


def test_the_cross_compiler_on_path_is_taken_when_none_is_chosen(
    topdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(topdir)
    monkeypatch.delenv("ZEPHYR_TOOLCHAIN_VARIANT", raising=False)
    monkeypatch.delenv("ZEPHYR_SDK_INSTALL_DIR", raising=False)
    if [*Path("/opt").glob("zephyr-sdk-*"), *Path("/usr/local").glob("zephyr-sdk-*")]:
        pytest.skip("this machine has the Zephyr SDK, which goes first")
    install(tmp_path / "bin" / "arm-none-eabi-gcc", "#!/bin/sh\n")
    found = find_workspace()
    assert found is not None

    environment = found.environment()

    assert environment["ZEPHYR_TOOLCHAIN_VARIANT"] == "gnuarmemb"
    assert environment["GNUARMEMB_TOOLCHAIN_PATH"] == str(tmp_path)


def test_a_west_without_zephyrs_requirements_is_passed_over(topdir: Path, tmp_path: Path) -> None:
    register(topdir)
    install(tmp_path / "bin" / "python-without", "#!/bin/sh\nexit 1\n")
    install(tmp_path / "bin" / "west", f"#!{tmp_path}/bin/python-without\n")

    found = find_workspace()

    assert found is not None
    assert found.west == topdir / ".venv" / "bin" / "west"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("deps/zephyr/VERSION", "Zephyr"),
        (".west/config", "west workspace"),
        ("modules/lib/wasm-micro-runtime", "WAMR"),
        (".venv/bin/west", "west whose Python"),
    ],
)
def test_what_is_missing_is_said_with_a_remedy(topdir: Path, path: str, words: str) -> None:
    register(topdir)
    victim = topdir / path
    if victim.is_dir():
        victim.rmdir()
    else:
        victim.unlink()

    assert find_workspace() is None
    found = [item for item in missing() if words in item.what]

    assert len(found) == 1
    assert found[0].remedy


def test_tools_are_asked_for_only_when_a_board_needs_them(topdir: Path, tmp_path: Path) -> None:
    register(topdir)
    for tool in ("cmake", "ninja"):
        install(tmp_path / "bin" / tool, "#!/bin/sh\n")

    assert missing() == []
    assert [item.what for item in missing(qemu="qemu-system-arm")] == ["qemu-system-arm"]


def test_a_board_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "boards" / "mps2_an385"
    folder.mkdir(parents=True)
    (folder / "board.yaml").write_text(BOARD_YAML)

    board = find_board("mps2_an385", tmp_path)

    assert (board.zephyr_board, board.kind) == ("mps2/an385", BoardKind.QEMU)
    assert board.qemu is not None
    assert board.qemu.data_address == 0x2100_0000
    assert list_boards(tmp_path) == [board]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (BOARD_YAML.replace("zephyr_board", "board"), "'zephyr_board' is missing"),
        (BOARD_YAML.replace("kind: qemu", "kind: toaster"), "toaster"),
        (BOARD_YAML.replace("  nic: lan9118\n", ""), "'nic' is missing"),
        (BOARD_YAML.replace("0x21000000", "somewhere"), "somewhere"),
        ("- a list", "board.yaml"),
        ("kind: [", "board.yaml"),
    ],
)
def test_a_bad_board_file_is_refused(tmp_path: Path, wrong: str, words: str) -> None:
    folder = tmp_path / "boards" / "mps2_an385"
    folder.mkdir(parents=True)
    (folder / "board.yaml").write_text(wrong)

    with pytest.raises(ConfigError) as failure:
        find_board("mps2_an385", tmp_path)

    assert words in str(failure.value)


def test_an_unknown_board_lists_the_known_ones(tmp_path: Path) -> None:
    folder = tmp_path / "boards" / "mps2_an385"
    folder.mkdir(parents=True)
    (folder / "board.yaml").write_text(BOARD_YAML)

    with pytest.raises(ConfigError, match="one of: mps2_an385"):
        find_board("toaster", tmp_path)


def test_the_boards_of_this_repository_can_be_read() -> None:
    assert {"native_sim", "mps2_an385"} <= {board.target for board in list_boards()}
