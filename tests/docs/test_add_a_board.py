"""The board that docs/add-a-board.md makes, and those there are: what can be seen without one."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from hil_tests.boards import WestBoard, make_board, read_lab
from propeller_fl.firmware import BoardKind, BoardSpec, find_board, list_boards
from tests.docs.commands import REPOSITORY

PAGE = (REPOSITORY / "docs/add-a-board.md").read_text()
NEW = "nucleo_f429zi"
CONTENTS = dict(re.findall(r"`(boards/[\w./]+)`\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the page was followed."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "boards", root / "boards")
    (root / "firmware").mkdir()
    shutil.copy(REPOSITORY / "firmware/boards.cmake", root / "firmware")
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    return root


def test_it_is_one_of_the_boards(tree: Path) -> None:
    assert {Path(name).suffix for name in CONTENTS} == {".yaml", ".conf", ".overlay"}
    board = find_board(NEW, tree)
    assert (board.kind, board.zephyr_board) == (BoardKind.WEST, NEW)
    assert {board.target for board in list_boards(tree)} == {
        NEW, *(board.target for board in list_boards())
    }  # fmt: skip


def test_the_harness_takes_it(tree: Path, tmp_path: Path) -> None:
    [lab] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "lab.toml").write_text(lab)
    [described] = read_lab(tmp_path / "lab.toml")
    assert described.target == NEW
    board = make_board(find_board(NEW, tree), tmp_path, described)
    assert isinstance(board, WestBoard)


def test_the_build_takes_the_files_of_each_board(tree: Path, tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    script = tmp_path / "print.cmake"
    script.write_text(
        f"include({tree}/firmware/boards.cmake)\n"
        'message("${EXTRA_CONF_FILE};${EXTRA_DTC_OVERLAY_FILE}")\n'
    )
    for board in list_boards(tree):
        command = [cmake, f"-DBOARD={board.zephyr_board}", "-P", str(script)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        taken = {Path(file).name for file in said.strip().split(";")}
        own = {f"{board.target}.conf", f"{board.target}.overlay"}
        flashed = {"flashed.conf"} if board.kind is BoardKind.WEST else set()
        assert taken == own | flashed, board.target


@dataclass(frozen=True)
class Partition:
    label: str
    first: int
    size: int


def partitions(overlay: str) -> list[Partition]:
    """Those of an overlay, by address; fails when one's name and address differ."""
    found = []
    pattern = r"(\w+): partition@(\w+) \{[^}]*?reg = <(\w+) DT_SIZE_K\((\d+)\)>"
    for label, at, address, kilobytes in re.findall(pattern, overlay):
        assert int(at, 16) == int(address, 16), label
        found.append(Partition(label, int(at, 16), int(kilobytes) * 1024))
    return sorted(found, key=lambda one: one.first)


def of_kind_west(tree: Path) -> list[BoardSpec]:
    return [board for board in list_boards(tree) if board.kind is BoardKind.WEST]


def test_partitions_lie_beside_one_another(tree: Path) -> None:
    for board in of_kind_west(tree):
        overlay = (tree / "boards" / board.target / f"{board.target}.overlay").read_text()
        found = partitions(overlay)
        assert len(found) == overlay.count("partition@"), f"{board.target}: one is not understood"
        assert {"fl_image_partition", "fl_data_partition"} <= {one.label for one in found}
        for one, following in itertools.pairwise(found):
            assert one.first + one.size <= following.first, f"{board.target}: {one}, {following}"


def test_limits_are_options_that_there_are(tree: Path) -> None:
    kconfig = (REPOSITORY / "firmware/Kconfig").read_text()
    options = set(re.findall(r"^\s*config (\w+)", kconfig, re.MULTILINE))
    for file in (tree / "boards").rglob("*.conf"):
        used = set(re.findall(r"^CONFIG_(FL_\w+)=", file.read_text(), re.MULTILINE))
        assert used <= options, file
    named = set(re.findall(r"`CONFIG_(FL_\w+)`", PAGE))
    assert named
    assert named <= options


def test_the_storage_of_settings_is_named(tree: Path) -> None:
    """Which of them fits hangs on the size of erase blocks, so it is the board's to say."""
    for board in of_kind_west(tree):
        conf = (tree / "boards" / board.target / f"{board.target}.conf").read_text()
        assert re.search(r"^CONFIG_(NVS|ZMS)=y$", conf, re.MULTILINE), board.target
