"""The memory that the settings give our own broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from propeller_fl import config
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ConfigError


def test_the_broker_gets_the_memory_that_is_set(tmp_path: Path) -> None:
    flags = {"data_dir": str(tmp_path), "broker.port": 0, "broker.memory_bytes": 64 * 1024 * 1024}
    with Deployment(config.load(environ={}, flags=flags), Role.BROKER):
        pid = int((tmp_path / "broker" / "broker.pid").read_text())
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"GOMEMLIMIT=67108864" in environment


def test_too_little_of_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"broker\.memory_bytes"):
        config.load(environ={}, flags={"broker.memory_bytes": 1024})
