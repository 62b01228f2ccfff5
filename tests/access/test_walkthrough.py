"""What docs/security.md tells an operator to type, typed."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from propeller_fl.cli import main
from tests.support.brokers import free_port
from tests.support.services import Service

GUIDE = Path(__file__).parents[2] / "docs" / "security.md"
DEPLOYMENT = GUIDE.read_text().partition("## A deployment")[2].partition("\n## ")[0]
COMMANDS = [
    line.removeprefix("    propeller-fl ")
    for line in DEPLOYMENT.splitlines()
    if line.startswith("    propeller-fl ")
]


def test_the_walk_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert len(COMMANDS) >= 12
    with contextlib.ExitStack() as stack:
        for command in COMMANDS:
            words = shlex.split(command)
            if words[0] == "init":  # here, and on ports that are free
                words[words.index("192.168.1.10")] = "localhost"
                words += ["--port", str(free_port()), "--http-port", str(free_port())]
            if "up" in words or words[:2] == ["proplet", "--credentials"]:
                at = "farm" if "up" in words else "elsewhere"
                if "up" in words:
                    words = words[words.index("up") :]
                service = Service(Path(at), None, *words)
                service.start()
                stack.callback(service.stop)
                service.wait_for("ready: proplet-")
                continue
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, f"{command}: {done.output}"
            if "round" in words:
                assert "complete: 2 updates" in done.output
    left = {path.stem for path in (tmp_path / "farm" / "access" / "proplets").iterdir()}
    assert left == {"board-1", "board-2", "proplet-1", "proplet-2"}
