"""A real registry: Debian's docker-registry, a process on loopback."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.wait import wait_until

PROGRAM = "docker-registry"
USER, PASSWORD = "someone", "a pass:word"
_BCRYPT = "$2y$04$cipeK07E5.xvWJCXgqVSM.7/6hpF.KUreZ6uT.MSSyjPlyChNH8.e"  # of PASSWORD


@dataclass(frozen=True)
class RunningRegistry:
    """``host`` with its port, and what it has logged."""

    host: str
    log: Path

    def requests(self, method: str) -> list[str]:
        """The paths of the requests of this kind that it has answered."""
        return re.findall(rf'"{method} (\S+) HTTP', self.log.read_text())


@contextlib.contextmanager
def running_registry(directory: Path, *, with_login: bool = False) -> Iterator[RunningRegistry]:
    """Skips the test when the program is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip(f"{PROGRAM} is not installed (apt-get install {PROGRAM})")
    directory.mkdir(exist_ok=True)
    auth = ""
    if with_login:
        (directory / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        auth = f"auth: {{htpasswd: {{realm: here, path: {directory / 'htpasswd'}}}}}\n"
    config = directory / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: info}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory / 'store'}}}}}\n"
        f"http: {{addr: '127.0.0.1:0'}}\n{auth}"
    )
    log = directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([program, "serve", str(config)], stdout=file, stderr=file)

    def port() -> str:
        assert process.poll() is None, log.read_text()
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())
        return found[1] if found else ""

    try:
        yield RunningRegistry(f"127.0.0.1:{wait_until(port, 60, 'the registry listens')}", log)
    finally:
        process.kill()
        process.wait()
