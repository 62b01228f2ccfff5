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
    firmware = repository() / "firmware"
    name = f"{bench.spec.target}-{variant}" if variant else bench.spec.target
    if f"\n{name}:" not in (firmware / "sizes.yaml").read_text():
        pytest.skip(f"firmware/sizes.yaml holds no budget for {name}")
    image = build_firmware(bench.spec, variant=variant, options=VARIANTS[variant])
    python = workspace.west.with_name("python3")  # of the environment with Zephyr's requirements
    done = subprocess.run(
        [str(python), str(firmware / "scripts" / "fl_sizes.py"), f"{name}={image.build_dir}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
