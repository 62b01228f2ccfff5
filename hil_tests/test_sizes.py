"""The images stay within the committed budget, so that a board with 256 KB of flash holds them."""

from __future__ import annotations

import subprocess

import pytest

from hil_tests.bench import VARIANTS, Bench
from propeller_fl.firmware import BoardKind, build_firmware, find_workspace, repository


@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", ["", "tls"])
def test_the_image_is_within_its_budget(bench: Bench, variant: str) -> None:
    if bench.spec.kind is BoardKind.NATIVE:
        pytest.skip("a program of this computer has no budget")
    workspace = find_workspace()
    assert workspace is not None, "without one this test is skipped"
    image = build_firmware(bench.spec, variant=variant, options=VARIANTS[variant])
    firmware = repository() / "firmware"
    name = f"{bench.spec.target}-{variant}" if variant else bench.spec.target
    assert f"{name}:" in (firmware / "sizes.yaml").read_text(), "it has a budget"
    python = workspace.west.with_name("python3")  # of the environment with Zephyr's requirements
    done = subprocess.run(
        [str(python), str(firmware / "scripts" / "fl_sizes.py"), f"{name}={image.build_dir}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
